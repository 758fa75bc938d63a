"""Speed and quality, each one command; results are committed beside it."""
