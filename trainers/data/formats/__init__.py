"""One module a family of image files: bytes in, pixels out, and a `Fault` for whatever is wrong with them."""
