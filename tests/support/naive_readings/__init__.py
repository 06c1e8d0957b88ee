"""Hyper-V's rules read naively: each reading has to be caught by a scenario."""
