"""Declared subgroups of a test set, each answered as the whole is."""
