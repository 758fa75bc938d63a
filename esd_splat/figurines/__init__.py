"""The figurine world: objects whose image from any camera is known exactly. No networks.

Only the training of the embedded teacher and the measures may import this package, because the
code that builds a scene must never see the truth.
"""

from esd_splat.figurines.captions import HELD_OUT, VOCABULARY, caption, parse
from esd_splat.figurines.shapes import COLOURS, HARD_KINDS, KINDS, Part, parts
from esd_splat.figurines.tracer import trace, trace_normals

__all__ = [
    "COLOURS",
    "HARD_KINDS",
    "HELD_OUT",
    "KINDS",
    "VOCABULARY",
    "Part",
    "caption",
    "parse",
    "parts",
    "trace",
    "trace_normals",
]
