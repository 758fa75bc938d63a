"""The page of a run: prompt, measures, pictures, curves and config in one file."""

from html import escape
from pathlib import Path
from typing import Any

from esd_splat.errors import EsdSplatError
from esd_splat.files import write_text
from esd_splat.run.folder import DIAGNOSTICS, METRICS, REPORT, SHEET, TURNTABLES
from esd_splat.show.pages import (
    Run,
    controls,
    curves,
    moving_picture,
    page,
    photograph,
    picture,
    read_run,
    read_scene,
    row,
    stage,
    table,
    value,
)

VIEWER = "scene.html"
_FRAME = f'<iframe src="{VIEWER}" title="the scene, to turn freely" loading="lazy"></iframe>'
"""Not put inside of the page: the viewer does not start where it has no address of its own."""


def report(folder: Path) -> str:
    """The page of the run in ``folder``, which may be unfinished.

    Raises:
        EsdSplatError: that is no run's folder, or it holds no numbers yet, or broken ones.
    """
    run = read_run(folder)
    if not run.metrics:
        raise EsdSplatError(
            f"{folder}: the run has no numbers yet; its first checkpoint writes {METRICS}"
        )
    parts = [f"<p>{escape(run.method)}, {escape(run.progress)}</p>", *_pictures(run)]
    if run.summary:
        numbers = {name: what for name, what in run.summary.items() if name != "measures"}
        tables = {"Measures": run.measures, "Run": numbers}
        parts.append(row(f"<div><h2>{t}</h2>{_table(v)}</div>" for t, v in tables.items() if v))
    parts += [f"<h2>{METRICS}</h2>", curves(run.metrics)]
    if run.diagnoses:
        parts += [f"<h2>{DIAGNOSTICS}</h2>", curves(run.diagnoses, lines="t")]
    parts += ["<h2>Config and versions</h2>", f'<pre class="columns">{escape(run.config)}</pre>']
    return page(run.prompt, parts, "esd_splat.report")


def write_report(folder: Path) -> None:
    """Write ``report`` into ``folder``.

    Raises:
        EsdSplatError: as ``report``, or it cannot be written.
    """
    write_text(folder / REPORT, report(folder))


def _pictures(run: Run) -> list[str]:
    """The scene to turn, the turntable, the contact sheet: what of them there is."""
    if run.scene_file:
        frames = photograph(read_scene(run))
        turned = stage(frames, 0, f"{run.prompt}, from the front") + controls([frames])
        shown = [_captioned(turned, run.scene_file.name)]
    else:
        shown = ['<p class="note">No scene file that can be read, so there is nothing to turn.</p>']
    names = [name for name in TURNTABLES if (run.folder / name).exists()]
    shown += [_captioned(moving_picture(run.folder / name), name) for name in names[:1]]
    if (run.folder / VIEWER).exists():
        shown.append(_captioned(_FRAME, f"{VIEWER}, as long as it lies beside this page"))
    parts = [row(shown)]
    if (run.folder / SHEET).exists():
        parts.append(_captioned(picture(run.folder / SHEET, "from all around"), SHEET))
    return parts


def _captioned(shown: str, caption: str) -> str:
    return f'<figure>{shown}<figcaption class="note">{caption}</figcaption></figure>'


def _table(values: dict[str, Any]) -> str:
    return table((), ((name, value(what)) for name, what in values.items()))
