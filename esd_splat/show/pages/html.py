"""The contents of a page: numbers as text and pictures as data URLs. Knows nothing about runs."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esd_splat.errors import EsdSplatError
from esd_splat.jinja import fill
from esd_splat.show.images import png_to_webp

MOST_PX = (1600, 12000)
"""Maximum width and height of a picture: twice the size at which a page shows it."""
PICTURE_QUALITY = 90
NOTHING = "\N{EN DASH}"
"""Shown in place of a missing value."""


@dataclass(frozen=True)
class Media:
    """A picture or a video that is embedded in the page."""

    name: str
    """Name of its file."""
    kind: str
    """MIME type, such as ``image/webp``."""
    source: str
    """Its contents as a data URL."""


def page(template: str, **values: Any) -> str:
    """Return a whole page.

    Args:
        template: Name of a file beside this module that extends ``page.html.j2``.
        values: The template's variables, except ``value``, which every template gets.
    """
    return fill(Path(__file__).parent / template, value=value, **values)


def value(what: Any) -> str:
    """Return a setting or a measure as short text. Floats have four significant digits."""
    if what is None or what == "":
        return NOTHING
    if isinstance(what, bool):
        return "yes" if what else "no"
    return f"{what:.4g}" if isinstance(what, float) else str(what)


def picture(path: Path) -> Media:
    """Embed a PNG file as WebP, shrunk to ``MOST_PX`` if it is larger.

    Raises:
        EsdSplatError: If the file cannot be read.
    """
    try:
        data = png_to_webp(path, MOST_PX, PICTURE_QUALITY)
    except OSError as error:
        raise EsdSplatError(f"{path}: cannot be shown: {error.strerror or error}") from error
    return Media(path.name, "image/webp", data_url(data, "image/webp"))


def moving_picture(path: Path) -> Media:
    """Embed an ``.mp4`` or ``.gif`` file.

    Raises:
        EsdSplatError: If the file cannot be read.
    """
    kind = "image/gif" if path.suffix == ".gif" else "video/mp4"
    try:
        return Media(path.name, kind, data_url(path.read_bytes(), kind))
    except OSError as error:
        raise EsdSplatError(f"{path}: cannot be read: {error.strerror}") from error


def data_url(data: bytes, kind: str) -> str:
    """Return a ``data:`` URL that contains ``data``."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
