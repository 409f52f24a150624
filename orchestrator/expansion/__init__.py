"""From a sweep to its jobs: points, replicates, picks, evaluations, and the specs that come of them."""
