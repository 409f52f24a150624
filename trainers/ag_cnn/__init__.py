"""AG-CNN: a global branch, a local branch on what it attends to, and their fusion."""
