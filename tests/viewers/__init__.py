"""Our files in the viewers that others use, and our page in a browser."""
