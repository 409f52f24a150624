"""Anybody's predictions, from CSV or parquet, as what a report is made of."""
