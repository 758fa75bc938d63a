"""What a page is filled with: numbers as text, pictures as addresses. Knows nothing of runs."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esd_splat.errors import EsdSplatError
from esd_splat.jinja import fill
from esd_splat.show.images import png_to_webp

MOST_PX = (1600, 12000)
"""Width and height to which a larger picture is shrunk: twice what a page shows of it."""
PICTURE_QUALITY = 90
NOTHING = "\N{EN DASH}"
"""Stands where there is no value."""


@dataclass(frozen=True)
class Media:
    """A picture or a video that is part of the page."""

    name: str
    """Of its file."""
    kind: str
    """Such as ``image/webp``."""
    source: str
    """See ``data_url``."""


def page(template: str, **values: Any) -> str:
    """A whole page.

    Args:
        template: name of a file beside this module that extends ``page.html.j2``.
        values: what it asks for, but for ``value``, which is there for all.
    """
    return fill(Path(__file__).parent / template, value=value, **values)


def value(what: Any) -> str:
    """A setting or a measure as text, short: numbers have four digits."""
    if what is None or what == "":
        return NOTHING
    if isinstance(what, bool):
        return "yes" if what else "no"
    return f"{what:.4g}" if isinstance(what, float) else str(what)


def picture(path: Path) -> Media:
    """A PNG file, shrunk where it is larger than any screen.

    Raises:
        EsdSplatError: it cannot be read.
    """
    try:
        data = png_to_webp(path, MOST_PX, PICTURE_QUALITY)
    except OSError as error:
        raise EsdSplatError(f"{path}: cannot be shown: {error.strerror or error}") from error
    return Media(path.name, "image/webp", data_url(data, "image/webp"))


def moving_picture(path: Path) -> Media:
    """An ``.mp4`` or ``.gif`` file.

    Raises:
        EsdSplatError: it cannot be read.
    """
    kind = "image/gif" if path.suffix == ".gif" else "video/mp4"
    try:
        return Media(path.name, kind, data_url(path.read_bytes(), kind))
    except OSError as error:
        raise EsdSplatError(f"{path}: cannot be read: {error.strerror}") from error


def data_url(data: bytes, kind: str) -> str:
    """An address that is what it leads to."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
