"""Mirrors ``esd_splat/pages``."""
