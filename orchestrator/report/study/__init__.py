"""Comparisons that concern a study as a whole: whole curves, groups of arms, all pairs, several test sets, and what to run next."""
