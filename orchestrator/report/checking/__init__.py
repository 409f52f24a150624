"""Whether the numbers in a text are those of a report: by name where they carry one, by what stands beside them where they do not."""
