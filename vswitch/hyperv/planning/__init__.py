"""What has to be written on a host, in which order, and what that does."""
