"""Settings: sections from YAML and ``key=value`` overrides, with every problem reported at once.

This package knows pydantic, YAML and OmegaConf, and nothing about splats, teachers or losses.
``schema`` defines what a section is, ``source`` reads what the user gave, and ``load`` checks the
one against the other.
"""

from esd_splat.settings.load import Reader, load, to_yaml
from esd_splat.settings.source import read_flat
from esd_splat.settings.words import help_text, keys_of

__all__ = ["Reader", "help_text", "keys_of", "load", "read_flat", "to_yaml"]
