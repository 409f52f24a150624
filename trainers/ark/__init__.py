"""Accruing and reusing knowledge from many annotated sources (Ark)."""
