"""What a file of ours says that its scene is. Knows headers; nothing of what is below them."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from esd_splat.export.frame import FRAME_COMMENT

_HEADER_BYTES = 1 << 16
"""No ``.ply`` of ours has a longer header, but for one with a comment of that length."""


def load_comment(path: Path) -> str:
    """The ``comment`` that an exporter was given with a scene, for a file that can be read.

    Returns:
        Empty for a format that keeps none, and for files of other programs: what those say is of
        themselves rather than of the scene.
    """
    read = _READERS.get(path.suffix.lower())
    return read(path) if read else ""


def _of_ply(path: Path) -> str:
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES).partition(b"end_header")[0]
    lines = header.decode("ascii", "replace").splitlines()
    first, *rest = [line[8:] for line in lines if line.startswith("comment ")] or [""]
    return "\n".join(rest) if first == FRAME_COMMENT else ""


def _of_sog(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        match json.loads(archive.read("meta.json")):
            case {"asset": {"generator": "esd_splat", "comment": str(comment)}}:
                return comment
    return ""


_READERS: dict[str, Callable[[Path], str]] = {".ply": _of_ply, ".sog": _of_sog}
