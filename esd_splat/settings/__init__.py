"""Settings: sections from YAML and ``key=value`` overrides, with every problem reported at once.

Knows pydantic, YAML and OmegaConf; knows nothing of splats, teachers or losses. What a section is
stands in ``schema``, what was given in ``source``; ``load`` holds the one to the other.
"""

from esd_splat.settings.load import Reader, load, to_yaml
from esd_splat.settings.source import read_flat
from esd_splat.settings.words import help_text, keys_of

__all__ = ["Reader", "help_text", "keys_of", "load", "read_flat", "to_yaml"]
