"""A Hyper-V virtual switch emulator with port ACLs."""

__all__ = ["__version__"]

#: The one place of the version: pyproject.toml reads it, a test holds the PowerShell module to it.
__version__ = "0.2.0"
