"""Weights files as people hand them on: what is in one, under which names, and the same weights as another format."""
