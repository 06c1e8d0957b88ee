"""What Hyper-V does to a frame: the reference, as pure functions."""
