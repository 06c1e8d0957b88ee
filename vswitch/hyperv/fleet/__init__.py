"""Many hosts: the inventory, and work on them side by side."""
