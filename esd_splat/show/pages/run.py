"""Read a run's folder back. This module knows the files, but not how a page shows them."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esd_splat.errors import ConfigError, EsdSplatError, one_line, quoted, reading
from esd_splat.formats import load_scene
from esd_splat.formats.load import DECODERS
from esd_splat.run.folder import CONFIG, DIAGNOSTICS, METRICS, SCENES, SUMMARY
from esd_splat.run.measure import in_words
from esd_splat.scene.gaussians import Gaussians
from esd_splat.settings import read_flat
from esd_splat.show.pages.html import NOTHING

READABLE = tuple(name for name in SCENES if Path(name).suffix in DECODERS)
"""Scene files that can be read back, the most exact first."""

BOOKKEEPING = ("out", "resume", "overwrite")
"""Keys that say where a run is and how it was started, but not what it does."""

Rows = list[dict[str, float]]
"""Rows of a table. A row has no entry for an empty cell of the file."""


@dataclass(frozen=True)
class Run:
    """The contents of a run's folder.

    The run may be unfinished, or made by another version of this package.
    """

    folder: Path
    config: str
    """The text of its ``config.yaml``."""
    settings: dict[str, Any]
    """The settings in ``config``, by dotted key."""
    summary: dict[str, Any]
    """The summary of a finished run; empty while the run is unfinished."""
    metrics: Rows
    """The rows of ``metrics.csv``; empty before the first checkpoint."""
    diagnoses: Rows
    """The rows of ``diagnostics.csv``; empty before the first checkpoint or if switched off."""

    @property
    def prompt(self) -> str:
        """The prompt, or the folder's name if the config has no prompt."""
        return one_line(self.settings.get("prompt", self.folder.resolve().name))

    @property
    def method(self) -> str:
        """Name of the loss; empty if the config does not name one."""
        return one_line(self.settings.get("loss.name", ""))

    @property
    def measures(self) -> dict[str, Any]:
        """The measures of the scene; empty if it was not measured, or not yet."""
        return self.summary.get("measures") or {}

    @property
    def judged(self) -> str:
        """What the teacher finds in a scene that cannot be measured; empty if it was not asked."""
        found = self.summary.get("judged")
        return in_words(None, 0, found) if found else ""

    @property
    def scene_file(self) -> Path | None:
        """The most exact of the readable scene files, or ``None`` if there is none yet."""
        there = (self.folder / name for name in READABLE)
        return next((path for path in there if path.exists()), None)

    @property
    def versions(self) -> str:
        """The versions that the run used, from the comment at the top of its config."""
        lines = self.config.splitlines()
        return one_line("; ".join(line.strip("# ") for line in lines if line.startswith("#")))

    @property
    def progress(self) -> str:
        """How far the run has come, as text."""
        if self.summary:
            return f"{one_line(self.summary.get('steps', '?'))} steps"
        if not self.metrics:
            return "unfinished, no step on record"
        steps = one_line(self.settings.get("steps", "?"))
        return f"unfinished: step {self.metrics[-1]['step']:g} of {steps}"


def read_run(folder: Path) -> Run:
    """Read the run in ``folder``.

    Raises:
        EsdSplatError: If ``folder`` is not the folder of a run, or a file in it is broken.
    """
    if not folder.is_dir():
        raise EsdSplatError(f"{folder}: no such folder; give the folder of a run, its out=")
    if not (folder / CONFIG).is_file():
        raise EsdSplatError(f"{folder}: not the folder of a run, as it has no {CONFIG}")
    config = _text(folder / CONFIG)
    try:
        settings = read_flat(config, CONFIG)
    except ConfigError as error:
        problem = error.problems[0]
        raise EsdSplatError(f"{folder / CONFIG}: {problem.key} {problem.message}") from error
    summary, metrics = _summary(folder / SUMMARY), _rows(folder / METRICS)
    diagnoses = _rows(folder / DIAGNOSTICS)
    if not all("t" in row for row in diagnoses):
        raise EsdSplatError(f"{folder / DIAGNOSTICS}: not a table of diagnoses, as it has no t")
    return Run(folder, config, settings, summary, metrics, diagnoses)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read several runs, see ``read_run``.

    Raises:
        EsdSplatError: a folder is given twice, or is no run.
    """
    for index, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:index]]:
            raise EsdSplatError(f"{folder}: given twice; leave one out")
    return [read_run(folder) for folder in folders]


def read_scene(run: Run) -> Gaussians:
    """Read the scene of a run.

    Raises:
        EsdSplatError: If there is no scene file, or it is broken.
    """
    if run.scene_file is None:
        raise EsdSplatError(
            f"{run.folder}: no scene to show; a run writes it when it ends or is interrupted, in "
            "each of export.formats"
        )
    return load_scene(run.scene_file)


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the settings that differ between the runs: by key, the text of each run's value."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if key not in BOOKKEEPING)
    written = {key: [_written(run.settings, key) for run in runs] for key in keys}
    return {
        one_line(key): [one_line(value) for value in values]
        for key, values in written.items()
        if len(set(values)) > 1
    }


def _written(settings: dict[str, Any], key: str) -> str:
    """Return a setting as text, in the spelling of a config file."""
    if key not in settings:
        return NOTHING
    what = settings[key]
    if what is None or isinstance(what, bool):
        return {None: "null", True: "true", False: "false"}[what]
    return str(what)


def _text(path: Path) -> str:
    with reading(path, EsdSplatError, "is not text in UTF-8"):
        return path.read_text(encoding="utf-8")


def _rows(path: Path) -> Rows:
    """Read the numbers of a table. Without a file, there are none."""
    if not path.exists():
        return []
    with reading(path, EsdSplatError, "not a table of numbers"):
        # Not a DictReader, which fills up each short row with as many cells as the first has.
        names, *lines = [line for line in csv.reader(io.StringIO(_text(path))) if line] or [[]]
        if longer := next((line for line in lines if len(line) > len(names)), None):
            raise ValueError(f"a row has {len(longer)} cells under {len(names)} names")
        rows = [
            {name: float(cell) for name, cell in zip(names, line, strict=False) if cell}
            for line in lines
        ]
    if not all("step" in row for row in rows):
        raise EsdSplatError(f"{path}: not a table of numbers over steps")
    if not all(len(row) > 1 for row in rows):
        raise EsdSplatError(f"{path}: not a table of quantities, as it has steps only")
    return rows


def _summary(path: Path) -> dict[str, Any]:
    """Read the summary of a finished run. For an unfinished run, it is empty."""
    if not path.exists():
        return {}
    with reading(path, EsdSplatError, "not a summary"):
        summary = dict(json.loads(_text(path)))
        measures = dict(summary.get("measures") or {})
        in_words(None, 0, summary.get("judged"))
    for name, what in measures.items():
        if not isinstance(what, (int, float, type(None))):
            raise EsdSplatError(
                f"{path}: {one_line(name)} is measured as {quoted(what)}, which is no number"
            )
    return summary
