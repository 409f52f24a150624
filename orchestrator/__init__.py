"""What decides: sweeps become plans, plans become submissions, results become reports. Never imports torch."""

__version__ = "0.1.0"
