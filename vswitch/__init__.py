"""A Hyper-V virtual switch emulator with port ACLs."""
