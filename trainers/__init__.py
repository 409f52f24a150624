"""Algorithms: they know torch and data, and no scheduler, tracker, command line or environment variable."""
