"""Comments in scene files: reading what an exporter stored. Only headers are read, not scenes."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from esd_splat.formats.frame import FRAME_COMMENT
from esd_splat.formats.sog_files import read_meta

_HEADER_BYTES = 1 << 16
"""Longer than the header of any ``.ply`` of this package, unless its comment is that long."""


def load_comment(path: Path) -> str:
    """Return the ``comment`` that the exporter was given when it wrote the file.

    Args:
        path: a scene file that can be read.

    Returns:
        Empty if the format stores no comment, and for files of other programs, whose comments are
        about the program rather than the scene.
    """
    read = _READERS.get(path.suffix.lower())
    return read(path) if read else ""


def to_ascii(text: str) -> str:
    r"""Escape ``text`` for the ASCII header of a ``.ply``, with the escape sequences of Python.

    Example:
        >>> to_ascii("ein Käuzchen"), from_ascii(to_ascii("ein Käuzchen"))
        ('ein K\\xe4uzchen', 'ein Käuzchen')
    """
    return text.replace("\\", r"\\").encode("ascii", "backslashreplace").decode()


def from_ascii(text: str) -> str:
    """Invert ``to_ascii``. A backslash that does not begin an escape sequence is kept."""

    def meant(match: re.Match[str]) -> str:
        return chr(int(match[1][1:], 16)) if match[1] != "\\" else "\\"

    escape = r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}|U0010[0-9a-f]{4})"
    return re.sub(escape, meant, text)


def _of_ply(path: Path) -> str:
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES).partition(b"end_header")[0]
    lines = header.decode("ascii", "replace").splitlines()
    first, *rest = [line[8:] for line in lines if line.startswith("comment ")] or [""]
    return from_ascii("\n".join(rest)) if first == FRAME_COMMENT else ""


def _of_sog(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        match read_meta(archive):
            case {"asset": {"generator": "esd_splat", "comment": str(comment)}}:
                return comment
    return ""


_READERS: dict[str, Callable[[Path], str]] = {".ply": _of_ply, ".sog": _of_sog}
