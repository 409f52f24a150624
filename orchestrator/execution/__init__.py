"""What backends that run jobs themselves share: the order of work, one attempt in this process, and the watch beside it."""
