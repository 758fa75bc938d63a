"""Dataclasses from YAML and ``key=value`` overrides, with every problem reported at once.

Knows dataclasses, YAML and OmegaConf; knows nothing of splats, teachers or losses. A schema is a
frozen dataclass; its fields are leaves (text, numbers, ``Literal`` choices, tuples, lists,
``None`` or one of these), sections (dataclasses) or plug-ins (one of a table of dataclasses,
chosen by the section's ``name`` key). A field's meaning is the string literal under it, its range
a ``ValueError("field: what is wrong")`` from ``__post_init__``; several may share one error, a
line each. Other names for a field are in its metadata, each with the function from a value given
by that name to the field's: ``metadata={"aliases": {"guidance_scale_lora": lambda s: 1 - s}}``.
"""

from esd_splat.structured.build import load
from esd_splat.structured.describe import help_text, to_yaml
from esd_splat.structured.schema import field_docs, keys_of, plugin
from esd_splat.structured.source import read_flat

__all__ = ["field_docs", "help_text", "keys_of", "load", "plugin", "read_flat", "to_yaml"]
