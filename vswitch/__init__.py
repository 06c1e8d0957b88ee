"""A Hyper-V virtual switch emulator with port ACLs."""

__all__ = ["__version__"]

#: The version of this code, as in pyproject.toml.
__version__ = "0.1.0"
