"""Scenarios as data, and the engines that run them."""
