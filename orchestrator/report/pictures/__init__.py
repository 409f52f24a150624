"""Pictures that jobs left, in a report."""
