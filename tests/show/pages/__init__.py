"""Mirrors ``esd_splat/show/pages``."""
