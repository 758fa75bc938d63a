"""The page that compares runs. Their scenes stand side by side and turn together."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esd_splat import __version__
from esd_splat.errors import EsdSplatError
from esd_splat.run.folder import SHEET
from esd_splat.run.measure import MEASURES
from esd_splat.show.pages import (
    AZIMUTHS,
    Frames,
    Media,
    Run,
    Scenes,
    differing,
    page,
    photograph,
    picture,
    read_runs,
    read_scene,
    value,
)

GENERATOR = "esd_splat.compare"
LETTERS = string.ascii_lowercase
MOST_COLUMNS = 4
"""Maximum number of scenes side by side."""
VIEWS = 8
"""Number of views of each scene in the table of views."""
CAPTIONED = 3
"""Maximum number of settings in a caption. A table shows all of them."""
UNCAPTIONED = ("prompt", "loss.name", "checkpoint_every", "view", "log.", "export.", "measure.")
"""Prefixes of keys that a caption leaves out, because it shows them anyway or because they do not
change the scene."""


@dataclass(frozen=True)
class _Entry:
    """One run on the page."""

    letter: str
    run: Run
    gaussians: int
    frames: Frames
    told: list[tuple[str, str]]
    """Keys and values of the settings in its caption."""
    untold: int
    """Number of settings that also differ between the runs but are not in the caption."""

    @property
    def name(self) -> str:
        return f"({self.letter}) {self.run.method}"


@dataclass(frozen=True)
class _Column:
    """One measure of all runs."""

    name: str
    goal: str
    """A sign for the best value, see ``_goal``."""
    numbers: list[Any]
    """The value of each run; an empty string for a run that was not measured."""
    best: set[int]
    """Indices of the values that are marked as best."""


def compare(folders: Sequence[Path]) -> str:
    """Return the page that compares the runs in ``folders`` as HTML. Runs may be unfinished.

    Raises:
        EsdSplatError: If there are too many folders, or a folder is given twice, is not the folder
            of a run, has no scene yet or is broken.
    """
    if len(folders) > len(LETTERS):
        raise EsdSplatError(f"{len(folders)} runs: a page has at most {len(LETTERS)}")
    runs = read_runs(folders)
    scenes = [read_scene(run) for run in runs]  # find broken files before the slow rendering
    different = differing(runs)
    entries = [
        _Entry(letter, run, len(scene), photograph(scene), *_captioned(index, run, different))
        for index, (letter, run, scene) in enumerate(zip(LETTERS, runs, scenes, strict=False))
    ]
    rows = -(-len(entries) // MOST_COLUMNS)
    alike = not any(key.startswith("measure.") for key in different)
    return page(
        "compare.html.j2",
        title=runs[0].prompt if "prompt" not in different else f"{len(runs)} runs",
        generator=GENERATOR,
        version=__version__,
        entries=entries,
        columns=-(-len(entries) // rows),
        scenes=Scenes(
            [entry.frames for entry in entries],
            [run.measures.get("rotation_deg") for run in runs],
        ),
        turns=range(0, AZIMUTHS, AZIMUTHS // VIEWS),
        measures=_measures(runs, mark=alike),
        alike=alike,
        meanings=MEASURES,
        differing=different,
        sheets=_sheets(entries),
    )


def _captioned(
    index: int, run: Run, different: dict[str, list[str]]
) -> tuple[list[tuple[str, str]], int]:
    """Return the differing settings that a caption has room for, and the number of the others.

    Settings of the loss come first.
    """
    keys = [k for k in different if not k.startswith(UNCAPTIONED) and k in run.settings]
    keys.sort(key=lambda key: not key.startswith("loss."))
    told = [(key, different[key][index]) for key in keys[:CAPTIONED]]
    return told, len(keys) - len(told)


def _measures(runs: Sequence[Run], *, mark: bool) -> list[_Column]:
    """Return every measure that any run has. Only with ``mark`` are the best values marked."""
    columns = []
    for name in dict.fromkeys(name for run in runs for name in run.measures):
        numbers = [run.measures.get(name, "") for run in runs]
        columns.append(_Column(name, _goal(name), numbers, _best(name, numbers) if mark else set()))
    return columns


def _better(name: str) -> str | int | None:
    return MEASURES[name].better if name in MEASURES else None


def _goal(name: str) -> str:
    """Return a sign for the best value of a measure: an arrow up, down or to a number."""
    better = _better(name)
    return {"higher": "↑", "lower": "↓", None: ""}.get(better, f"→ {value(better)}")


def _best(name: str, values: Sequence[Any]) -> set[int]:
    """Return the indices of the best ``values``, which are empty strings for unmeasured runs.

    There are none if no value is better than another, or if one is ``None``: IG is ``None`` where
    it would be largest.
    """
    goal = _better(name)
    if goal is None or None in values:
        return set()
    numbers = {i: what for i, what in enumerate(values) if what != ""}
    if isinstance(goal, str):
        off = {i: what if goal == "lower" else -what for i, what in numbers.items()}
    else:
        off = {i: abs(what - goal) for i, what in numbers.items()}
    least, most = min(off.values(), default=0), max(off.values(), default=0)
    return {i for i, distance in off.items() if distance == least < most}


def _sheets(entries: Sequence[_Entry]) -> list[tuple[_Entry, Media]]:
    """Return the contact sheets of the runs that drew some rows during optimization."""
    drawn = [entry for entry in entries if entry.run.settings.get("log.sheet_every")]
    files = [(entry, entry.run.folder / SHEET) for entry in drawn]
    return [(entry, picture(file)) for entry, file in files if file.exists()]
