"""Estimates and intervals in pure numpy and scipy."""
