"""The page that compares runs: side by side, and turned together."""

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
    NOTHING,
    Frames,
    Media,
    Run,
    Scenes,
    page,
    photograph,
    picture,
    read_run,
    read_scene,
    value,
)

GENERATOR = "esd_splat.compare"
LETTERS = string.ascii_lowercase
MOST_COLUMNS = 4
"""Scenes beside each other."""
VIEWS = 8
"""Of each scene in the table of views."""
CAPTIONED = 3
"""Most settings that a caption names; a table has all of them."""
UNCAPTIONED = ("prompt", "loss.name", "checkpoint_every", "view", "log.", "export.", "measure.")
"""What a caption says anyway, and what changes nothing about a scene; keys begin with it."""
BOOKKEEPING = ("out", "resume", "overwrite")
"""Keys that say where a run is and how it was started, not what it does."""


@dataclass(frozen=True)
class _Entry:
    """One run on the page."""

    letter: str
    run: Run
    gaussians: int
    frames: Frames
    told: list[tuple[str, str]]
    """Settings that its caption names."""
    untold: int
    """How many more differ from those of another run."""

    @property
    def name(self) -> str:
        return f"({self.letter}) {self.run.method}"


@dataclass(frozen=True)
class _Column:
    """A measure of all runs."""

    name: str
    goal: str
    """Which value is best, as a sign."""
    numbers: list[Any]
    """Of each run; an empty text for one that was not measured."""
    best: set[int]
    """Which of them are marked."""


def compare(folders: Sequence[Path]) -> str:
    """The page that compares the runs in ``folders``, which may be unfinished.

    Raises:
        EsdSplatError: there is no run, one is given twice, has no scene yet, or is broken.
    """
    if len(folders) > len(LETTERS):
        raise EsdSplatError(f"{len(folders)} runs: a page has at most {len(LETTERS)}")
    for index, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:index]]:
            raise EsdSplatError(f"{folder}: given twice; leave one out")
    runs = [read_run(folder) for folder in folders]
    scenes = [read_scene(run) for run in runs]  # all are read before one is drawn
    differing = _differing(runs)
    entries = [
        _Entry(letter, run, len(scene), photograph(scene), *_captioned(index, run, differing))
        for index, (letter, run, scene) in enumerate(zip(LETTERS, runs, scenes, strict=False))
    ]
    rows = -(-len(entries) // MOST_COLUMNS)
    alike = not any(key.startswith("measure.") for key in differing)
    return page(
        "compare.html.j2",
        title=runs[0].prompt if "prompt" not in differing else f"{len(runs)} runs",
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
        differing=differing,
        sheets=_sheets(entries),
    )


def _differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The settings that are not the same in all runs, as written, by key."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if key not in BOOKKEEPING)
    written = {key: [_written(run.settings, key) for run in runs] for key in keys}
    return {key: values for key, values in written.items() if len(set(values)) > 1}


def _written(settings: dict[str, Any], key: str) -> str:
    """A setting as it is typed."""
    if key not in settings:
        return NOTHING
    what = settings[key]
    if what is None or isinstance(what, bool):
        return {None: "null", True: "true", False: "false"}[what]
    return str(what)


def _captioned(
    index: int, run: Run, differing: dict[str, list[str]]
) -> tuple[list[tuple[str, str]], int]:
    """The settings that differ, as far as a caption has room for them, and how many more there are.

    Those of the loss come first.
    """
    keys = [k for k in differing if not k.startswith(UNCAPTIONED) and k in run.settings]
    keys.sort(key=lambda key: not key.startswith("loss."))
    told = [(key, differing[key][index]) for key in keys[:CAPTIONED]]
    return told, len(keys) - len(told)


def _measures(runs: Sequence[Run], *, mark: bool) -> list[_Column]:
    """Every measure that any run has; the best are marked only if they can be compared."""
    columns = []
    for name in dict.fromkeys(name for run in runs for name in run.measures):
        numbers = [run.measures.get(name, "") for run in runs]
        columns.append(_Column(name, _goal(name), numbers, _best(name, numbers) if mark else set()))
    return columns


def _better(name: str) -> str | int | None:
    return MEASURES[name].better if name in MEASURES else None


def _goal(name: str) -> str:
    """Which value of a measure is best, as a sign."""
    better = _better(name)
    return {"higher": "↑", "lower": "↓", None: ""}.get(better, f"→ {value(better)}")


def _best(name: str, values: Sequence[Any]) -> set[int]:
    """Where the best of ``values`` stand, empty text for runs without.

    Nowhere if none is better than another, or one is ``None``: IG is so where it would be largest.
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
    """The contact sheets of the runs that drew some on their way."""
    drawn = [entry for entry in entries if entry.run.settings.get("log.sheet_every")]
    files = [(entry, entry.run.folder / SHEET) for entry in drawn]
    return [(entry, picture(file)) for entry, file in files if file.exists()]
