"""One reader a layout on disk; which card uses which reader stands in the card."""
