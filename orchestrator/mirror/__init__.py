"""What a sweep looks like in MLflow, as plain values from files. `orchestrator.tracking` sends them, long series by `rows`."""
