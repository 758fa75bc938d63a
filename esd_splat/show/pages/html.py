"""Parts of a page as HTML. Knows bytes and text; nothing of runs."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from esd_splat.errors import EsdSplatError
from esd_splat.show.images import png_to_webp

TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{generator}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
MOST_PX = (1600, 12000)
"""Width and height to which a larger picture is shrunk: twice what a page shows of it."""
PICTURE_QUALITY = 90


def page(title: str, body: Iterable[str], generator: str) -> str:
    """A whole page.

    Args:
        title: text.
        body: HTML.
        generator: the command that writes it.
    """
    return TEMPLATE.format(
        title=escape(title), body="\n".join(body), generator=generator, style=part("page.css")
    )


def row(parts: Iterable[str]) -> str:
    """Parts beside each other, as far as the page is wide."""
    return '<div class="row">\n' + "\n".join(parts) + "\n</div>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls within the page where it is too wide.

    Args:
        header: names of the columns, as text; empty for none.
        rows: the row's name as text, then its cells as HTML.
    """
    top = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = [f"<thead><tr>{top}</tr></thead>"] if header else []
    for name, *cells in rows:
        line = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f"<tr><th>{escape(name)}</th>{line}</tr>")
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def value(what: Any) -> str:
    """A setting or a measure as HTML, short: four digits of a number, a dash for nothing."""
    if what is None or what == "":
        return "&ndash;"
    if isinstance(what, bool):
        return "yes" if what else "no"
    return escape(f"{what:.4g}" if isinstance(what, float) else str(what))


def picture(path: Path, says: str) -> str:
    """A PNG file as a picture of the page, shrunk where it is larger than any screen.

    Raises:
        EsdSplatError: it cannot be read.
    """
    try:
        data = png_to_webp(path, MOST_PX, PICTURE_QUALITY)
    except OSError as error:
        raise EsdSplatError(f"{path}: cannot be shown: {error.strerror or error}") from error
    return f'<img alt="{escape(says)}" src="{data_url(data, "image/webp")}">'


def moving_picture(path: Path) -> str:
    """An ``.mp4`` or ``.gif`` that plays by itself, again and again.

    Raises:
        EsdSplatError: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EsdSplatError(f"{path}: cannot be read: {error.strerror}") from error
    if path.suffix == ".gif":
        return f'<img class="moving" alt="the scene turning" src="{data_url(data, "image/gif")}">'
    source = data_url(data, "video/mp4")
    # Browsers let a video start by itself only when it is muted.
    return f'<video class="moving" controls autoplay loop muted playsinline src="{source}"></video>'


def data_url(data: bytes, kind: str) -> str:
    """An address that is what it leads to."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def part(name: str) -> str:
    """A style or script that lies beside this module."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
