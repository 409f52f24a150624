"""What several methods share, one noun a file."""
