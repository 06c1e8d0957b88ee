"""One PowerShell operation on one host over WinRM, and its errors in sentences."""
