"""A WinRM endpoint on a real socket, certificates and a Kerberos realm."""
