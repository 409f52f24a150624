"""One line to people who are not looking: a sweep has ended, something of it failed, its budget is used."""
