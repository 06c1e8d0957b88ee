"""Host states as a layout and a policy."""
