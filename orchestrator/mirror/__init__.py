"""What a sweep looks like in MLflow, as plain values made from files. Only `orchestrator.tracking` sends them."""
