"""The bridge to real Hyper-V hosts: read their state, plan changes, write them over WinRM, verify."""
