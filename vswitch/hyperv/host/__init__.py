"""What a Hyper-V host says of itself, read into typed data."""
