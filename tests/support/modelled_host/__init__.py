"""A strict model of a Hyper-V host, and what goes with it."""
