"""The no-network floor: logistic regression on a thumbnail, the file's shape, mean and sd."""
