"""The files within a ``.sog``: a zip of images and of one text, read in bounded memory and time."""

import io
import json
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from esd_splat.errors import SceneError, quoted

META = "meta.json"
MAX_META = 1 << 20
"""The largest size of the text in bytes. Without a comment, it takes about 20 kB."""
SPARE_PIXELS = 1 << 16
"""How many pixels an image may have besides two for each Gaussian, as writers fill up rows."""

Pixels = npt.NDArray[np.uint8]


def check_packing(archive: zipfile.ZipFile) -> None:
    """Refuse compressions that Python's zipfile unpacks without regard to the size that is stated.

    Raises:
        SceneError: a file is neither stored nor deflated.
    """
    for member in archive.infolist():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise SceneError(
                f"its {quoted(member.filename)} is compressed by method {member.compress_type}; "
                "only files that are stored or deflated are read, so zip it again"
            )


def read_meta(archive: zipfile.ZipFile) -> Any:
    """Return the content of ``meta.json``.

    Raises:
        ValueError, KeyError, RecursionError, zipfile.BadZipFile, zlib.error: it cannot be read.
    """
    return json.loads(read_file(archive, META, MAX_META))


def read_file(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return the content of a file of at most ``most`` bytes.

    Raises:
        ValueError, KeyError, zipfile.BadZipFile, zlib.error: it cannot be read.
    """
    member = archive.getinfo(name)
    if member.file_size > most:
        raise ValueError(
            f"{quoted(name)} unpacks to {member.file_size} bytes, more than the {most} expected"
        )
    with archive.open(member) as file:
        return file.read(member.file_size)


def read_pixels(archive: zipfile.ZipFile, name: str, most: int) -> Pixels:
    """Decode a WebP image of at most ``most`` pixels to RGBA, ``[h, w, 4]``.

    Raises:
        ValueError, KeyError, OSError, SyntaxError, zipfile.BadZipFile, zlib.error: it cannot be
            read.
    """
    from PIL import Image

    content = read_file(archive, name, 8 * most)  # noise takes 4 bytes a pixel
    # Pillow allocates the pixels when it opens the file.
    width, height = _size(content)
    if width * height > most:
        raise ValueError(f"{quoted(name)} has {width} x {height} pixels, more than {most}")
    with Image.open(io.BytesIO(content), formats=["webp"]) as picture:
        return np.asarray(picture.convert("RGBA"))


def _size(content: bytes) -> tuple[int, int]:
    """Return the width and height that the header of a WebP image states.

    Raises:
        ValueError: it is no WebP image.
    """
    kind, head = content[12:16], content[20:30].ljust(10, b"\0")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        if kind == b"VP8L":  # a byte, and then 14 bits each of width - 1 and height - 1
            bits = int.from_bytes(head[1:5], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        if kind == b"VP8X":  # 4 bytes, and then 24 bits each of width - 1 and height - 1
            return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
        if kind == b"VP8 ":  # 6 bytes, and then 14 of 16 bits each
            width, height = head[6:8], head[8:10]
            return (
                int.from_bytes(width, "little") & 0x3FFF,
                int.from_bytes(height, "little") & 0x3FFF,
            )
    raise ValueError("an image is no WebP")
