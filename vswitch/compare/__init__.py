"""Exact comparison of ACL entries: which packets two lists of rules treat differently."""
