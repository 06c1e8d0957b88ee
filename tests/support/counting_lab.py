"""The extension that makes a lab count; see `tests.support.counting`."""

from tests.support.counting import install

install()
