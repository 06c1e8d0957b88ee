"""The controller, writing down what it parses and compiles."""

from __future__ import annotations

from tests.support.counting import count_in
from vswitch.controller.__main__ import main

if __name__ == "__main__":
    count_in("controller")
    main()
