"""The confidence-interval report: statistics, tables, figures, pages."""
