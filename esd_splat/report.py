"""``python -m esd_splat.report``: a page for each run, pictures and curves in one file.

The page asks no network for anything, so it can be mailed, and opened years later.
"""

import argparse
import base64
import csv
import io
import json
import sys
from collections.abc import Sequence
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

from esd_splat.errors import EsdSplatError
from esd_splat.files import write_text
from esd_splat.record import CONFIG, DIAGNOSTICS, METRICS, REPORT, SHEET, SUMMARY

DONE, WRONG_REQUEST = 0, 2
COLUMNS = 3
"""Of curves beside each other."""
PLOT_INCHES = (3.3, 2.1)
"""Width and height of one curve."""
LOG_FROM = 30.0
"""A quantity whose values differ by more than this factor is drawn over a logarithmic axis."""
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text: it can be searched, and needs no glyphs inside
    "svg.hashsalt": "esd_splat",  # the same numbers give the same page
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
img, svg {{ max-width: 100%; height: auto; }}
th {{ text-align: left; padding-right: 2rem; font-weight: normal; color: #555; }}
pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""

Rows = list[dict[str, float]]
"""Of a table; a row has no entry where the file has an empty cell."""


def report(folder: Path) -> str:
    """The page of the run in ``folder``, which may be unfinished.

    Raises:
        EsdSplatError: that is no run's folder, or it holds no numbers yet, or broken ones.
    """
    if not folder.is_dir():
        raise EsdSplatError(f"{folder}: no such folder; give the folder of a run, its out=")
    if not (folder / CONFIG).is_file():
        raise EsdSplatError(f"{folder}: not the folder of a run, as it has no {CONFIG}")
    metrics = _rows(folder / METRICS)
    if not metrics:
        raise EsdSplatError(
            f"{folder}: the run has no numbers yet; its first checkpoint writes {METRICS}"
        )
    summary, diagnoses = _summary(folder / SUMMARY), _rows(folder / DIAGNOSTICS)
    if not all("t" in row for row in diagnoses):
        raise EsdSplatError(f"{folder / DIAGNOSTICS}: not a table of diagnoses, as it has no t")
    for name, rows, lines in ((METRICS, metrics, None), (DIAGNOSTICS, diagnoses, "t")):
        if rows and not _quantities(rows, lines):
            raise EsdSplatError(f"{folder / name}: not a table of quantities, as it has steps only")
    numbers = dict(summary)
    measures = numbers.pop("measures", None)
    config = _text(folder / CONFIG)
    parts = [_sheet(folder / SHEET), "<h2>Run</h2>"]
    parts.append(
        _table(numbers) if summary else f"<p>Unfinished: step {metrics[-1]['step']:g}.</p>"
    )
    if isinstance(measures, dict) and measures:
        parts += ["<h2>Measures</h2>", _table(measures)]
    parts += [f"<h2>{METRICS}</h2>", curves(metrics)]
    if diagnoses:
        parts += [f"<h2>{DIAGNOSTICS}</h2>", curves(diagnoses, lines="t")]
    parts += ["<h2>Config and versions</h2>", f"<pre>{escape(config)}</pre>"]
    return PAGE.format(
        title=escape(str(numbers.get("prompt", folder.resolve().name))), body="\n".join(parts)
    )


def curves(rows: Rows, lines: str | None = None) -> str:
    """A small plot over ``step`` for each other column, together one SVG element.

    Args:
        rows: with a column ``step``.
        lines: column by whose values the rows are parted into lines; ``None`` is one line.
    """
    from matplotlib import colormaps, rc_context
    from matplotlib.figure import Figure

    names = _quantities(rows, lines)
    levels = sorted({row[lines] for row in rows}) if lines else [None]
    height = -(-len(names) // COLUMNS)
    with rc_context(STYLE):
        size = (COLUMNS * PLOT_INCHES[0], height * PLOT_INCHES[1])
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(height, COLUMNS, squeeze=False).flat
        for ax, name in zip_longest(axes, names):
            if name is None:
                ax.set_axis_off()
                continue
            for index, level in enumerate(levels):
                mine = [row for row in rows if name in row and (not lines or row[lines] == level)]
                ax.plot(
                    [row["step"] for row in mine],
                    [row[name] for row in mine],
                    marker="." if len(mine) < 30 else None,
                    color=colormaps["viridis"](0.9 * index / max(1, len(levels) - 1)),
                    label=f"{lines} = {level:g}" if level is not None else None,
                )
            values = [row[name] for row in rows if name in row]
            # What fell by decades lies on the axis of a linear plot.
            if 0 < LOG_FROM * min(values) < max(values):
                ax.set_yscale("log")
            ax.set_title(name)
        if lines:
            handles = figure.axes[0].get_lines()
            figure.legend(handles=handles, loc="outside upper center", ncols=len(levels))
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    # Before the element are an XML declaration and a link to the definition of SVG.
    return file.getvalue()[file.getvalue().index("<svg") :]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages and return the exit status: 0 done, 2 wrong request."""
    parser = argparse.ArgumentParser(
        prog="python -m esd_splat.report",
        description=f"Writes {REPORT} into the folder of each run: prompt, measures, contact "
        "sheet, curves and config in one file.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    folders = parser.parse_args(argv).runs
    try:
        # All are read before one is written: what is asked for happens whole, or not at all.
        pages = {folder / REPORT: report(folder) for folder in folders}
        for path, page in pages.items():
            write_text(path, page)
            print(f"wrote {path}")
    except EsdSplatError as error:
        print(f"esd_splat: {error}", file=sys.stderr)
        return WRONG_REQUEST
    return DONE


def _quantities(rows: Rows, lines: str | None) -> list[str]:
    """The columns that have a curve, in the order of the table."""
    return [n for n in dict.fromkeys(n for row in rows for n in row) if n not in ("step", lines)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text in UTF-8"
        raise EsdSplatError(f"{path}: cannot be read: {reason}") from error


def _rows(path: Path) -> Rows:
    """The numbers of a table; none where there is no file."""
    if not path.exists():
        return []
    try:
        rows = [
            {name: float(cell) for name, cell in row.items() if cell}
            for row in csv.DictReader(io.StringIO(_text(path)))
        ]
    except (ValueError, TypeError, csv.Error) as error:
        raise EsdSplatError(f"{path}: not a table of numbers ({error})") from error
    if not all("step" in row for row in rows):
        raise EsdSplatError(f"{path}: not a table of numbers over steps")
    return rows


def _summary(path: Path) -> dict[str, Any]:
    """What a finished run says of itself; nothing where it is unfinished."""
    if not path.exists():
        return {}
    try:
        return dict(json.loads(_text(path)))
    except (ValueError, TypeError) as error:
        raise EsdSplatError(f"{path}: not a summary ({error})") from error


def _sheet(path: Path) -> str:
    if not path.exists():
        return ""
    try:
        data = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise EsdSplatError(f"{path}: cannot be read: {error.strerror}") from error
    return f'<img alt="the scene from all around" src="data:image/png;base64,{data}">'


def _table(values: dict[str, Any]) -> str:
    cells = (f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in values.items())
    return "<table>" + "\n".join(cells) + "</table>"


if __name__ == "__main__":
    sys.exit(main())
