"""What a sweep or a cluster config may say: the keys, the shapes of their values, and what is said of a wrong one."""
