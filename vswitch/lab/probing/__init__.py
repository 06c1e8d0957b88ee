"""Real packets from inside a guest, and what captures show of them."""
