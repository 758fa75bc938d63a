"""File formats for scenes. To add one, write its file and add a line to ``EXPORTERS``."""

from esd_splat.formats.base import Exporter
from esd_splat.formats.compressed_ply import CompressedPly
from esd_splat.formats.html import Html
from esd_splat.formats.load import load_ply, load_scene
from esd_splat.formats.ply import Ply, save_ply
from esd_splat.formats.sog import Sog
from esd_splat.formats.splat import Splat
from esd_splat.formats.spz import Spz
from esd_splat.plugins import with_installed

EXPORTERS: dict[str, type[Exporter]] = with_installed(
    "formats",
    {
        "ply": Ply,
        "sog": Sog,
        "spz": Spz,
        "compressed.ply": CompressedPly,
        "splat": Splat,
        "html": Html,
    },
)
"""Exporters by file extension, without the leading dot. The most exact format comes first."""

__all__ = [
    "EXPORTERS",
    "Exporter",
    "load_ply",
    "load_scene",
    "save_ply",
]
