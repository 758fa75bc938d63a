"""What a file of ours says that its scene is. Knows headers; nothing of what is below them."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from esd_splat.formats.frame import FRAME_COMMENT

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


def to_ascii(text: str) -> str:
    r"""``text`` as a ``.ply``'s header can hold it, what is not ASCII written as Python does.

    Example:
        >>> to_ascii("ein Käuzchen"), from_ascii(to_ascii("ein Käuzchen"))
        ('ein K\\xe4uzchen', 'ein Käuzchen')
    """
    return text.replace("\\", r"\\").encode("ascii", "backslashreplace").decode()


def from_ascii(text: str) -> str:
    """What ``to_ascii`` was given; a backslash that begins nothing of its own stays one."""

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
        match json.loads(archive.read("meta.json")):
            case {"asset": {"generator": "esd_splat", "comment": str(comment)}}:
                return comment
    return ""


_READERS: dict[str, Callable[[Path], str]] = {".ply": _of_ply, ".sog": _of_sog}
