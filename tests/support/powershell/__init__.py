"""Rules for PowerShell files, checked on the syntax tree."""
