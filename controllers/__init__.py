"""The OS-Ken application: the learning virtual switch."""
