"""UniChest: conquer, then divide (IEEE TMI 2024)."""
