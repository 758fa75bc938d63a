"""Mirrors ``esd_splat/evaluate``."""
