"""Explain, probe and test: which layer decides, with evidence."""
