"""What a model does at a threshold, and whether its probabilities are frequencies."""
