"""A linear classifier on vectors that somebody else computed."""
