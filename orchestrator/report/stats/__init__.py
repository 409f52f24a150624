"""Estimates and intervals in numpy and scipy, and in machine code where numba is there and it pays."""
