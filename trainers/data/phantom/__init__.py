"""The phantom: a generator of made chest radiographs, so that everything can be run and tested without a download."""
