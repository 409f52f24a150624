"""Figures as SVG text. Colours are variables with a fallback, so that one drawing serves light pages, dark pages and print."""
