"""The seam: what runs on the node, from one `job.json` to one `result.json`."""
