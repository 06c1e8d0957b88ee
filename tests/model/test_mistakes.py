"""Every kind of mistake gives one error at the right place. `@@` marks the place."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from vswitch.errors import InputErrors, Origin
from vswitch.model import load_site

_spec = importlib.util.spec_from_file_location("model_files", Path(__file__).with_name("files.py"))
