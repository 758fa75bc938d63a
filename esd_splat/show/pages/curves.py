"""Small plots of what a run logged."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from esd_splat.show.pages.run import Rows

PLOT_INCHES = (3.3, 2.1)
"""Width and height of one curve."""
LOG_FROM = 30.0
"""A quantity whose values differ by more than this factor is drawn on a logarithmic axis."""
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # keep text searchable, and embed no glyphs
    "svg.hashsalt": "esd_splat",  # make equal numbers give equal pages
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Curves:
    """Small plots that share a legend."""

    plots: list[str]
    """SVG elements."""
    legend: list[tuple[str, str]]
    """Colour and meaning of each line; empty if every plot has only one line."""


def curves(rows: Rows, lines: str | None = None) -> Curves:
    """Plot each column over ``step``.

    Args:
        rows: The rows of a table with a column ``step``.
        lines: Column whose values split the rows into lines; ``None`` draws a single line.
    """
    from matplotlib import colormaps, rc_context  # here, because the import takes a second
    from matplotlib.colors import to_hex

    levels = sorted({row[lines] for row in rows}) if lines else [None]
    colors = [
        to_hex(colormaps["viridis"](0.9 * index / max(1, len(levels) - 1)))
        for index in range(len(levels))
    ]
    names = [n for n in dict.fromkeys(n for row in rows for n in row) if n not in ("step", lines)]
    plots = []
    for name in names:
        parts = []
        for level in levels:
            mine = [row for row in rows if name in row and (not lines or row[lines] == level)]
            parts.append(([row["step"] for row in mine], [row[name] for row in mine]))
        with rc_context(STYLE):
            plots.append(_plot(name, parts, colors))
    legend = [
        (color, f"{lines} = {level:g}")
        for color, level in zip(colors, levels, strict=True)
        if level is not None
    ]
    return Curves(plots, legend)


def _plot(
    name: str, parts: Sequence[tuple[list[float], list[float]]], colors: Sequence[str]
) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=PLOT_INCHES, layout="constrained")
    ax = figure.subplots()
    for (steps, values), color in zip(parts, colors, strict=True):
        ax.plot(steps, values, marker="." if len(steps) < 30 else None, color=color)
    together = [value for _, values in parts for value in values]
    # On a linear scale, a value that fell by several decades could not be told from zero.
    if 0 < LOG_FROM * min(together) < max(together):
        ax.set_yscale("log")
    ax.set_title(name)
    ax.set_xlabel("step")
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=NO_METADATA)
    # The element follows an XML declaration and a document type, which HTML must not contain.
    return file.getvalue()[file.getvalue().index("<svg") :]
