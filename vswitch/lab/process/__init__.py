"""The lab as a process: start it, find it, ask it, end it."""
