"""Scenes and pictures as files. To add a scene format: write its file, then add its line here."""

from esd_splat.export.base import Exporter
from esd_splat.export.compressed_ply import CompressedPly
from esd_splat.export.html import Html
from esd_splat.export.images import png_to_webp, to_bytes, to_webp, write_png
from esd_splat.export.load import load_ply, load_scene
from esd_splat.export.ply import Ply, save_ply
from esd_splat.export.sheet import contact_sheet
from esd_splat.export.sog import Sog
from esd_splat.export.splat import Splat
from esd_splat.export.spz import Spz
from esd_splat.export.video import check_video, write_video

EXPORTERS: dict[str, type[Exporter]] = {
    "ply": Ply,
    "sog": Sog,
    "spz": Spz,
    "compressed.ply": CompressedPly,
    "splat": Splat,
    "html": Html,
}
"""By what stands behind the first dot of a file's name; the most exact first."""

__all__ = [
    "EXPORTERS",
    "Exporter",
    "check_video",
    "contact_sheet",
    "load_ply",
    "load_scene",
    "png_to_webp",
    "save_ply",
    "to_bytes",
    "to_webp",
    "write_png",
    "write_video",
]
