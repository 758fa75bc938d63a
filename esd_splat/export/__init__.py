"""Scenes and pictures as files. To add a scene format: write its file, then add its line here."""

from esd_splat.export.base import Exporter
from esd_splat.export.images import contact_sheet, write_png
from esd_splat.export.ply import Ply, load_ply, save_ply
from esd_splat.export.video import write_video

EXPORTERS: dict[str, type[Exporter]] = {
    "ply": Ply,
}

__all__ = [
    "EXPORTERS",
    "Exporter",
    "contact_sheet",
    "load_ply",
    "save_ply",
    "write_png",
    "write_video",
]
