"""The OS-Ken application: what each switch has to hold."""
