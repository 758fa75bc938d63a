"""When do the views collapse, by how much, and what cures it: the study behind the defaults."""
