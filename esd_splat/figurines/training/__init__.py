"""Training of the embedded teacher, and the report on what it draws."""
