"""Carrying out plans, keeping what is needed to undo them, and undoing them."""
