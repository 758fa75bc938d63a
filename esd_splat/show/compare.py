"""The page that compares runs: side by side, and turned together."""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from esd_splat import __version__
from esd_splat.errors import EsdSplatError
from esd_splat.run.folder import SHEET
from esd_splat.run.measure import MEASURES
from esd_splat.show.pages import (
    AZIMUTHS,
    CAMERAS,
    ELEVATIONS,
    Frames,
    Run,
    controls,
    page,
    photograph,
    picture,
    read_run,
    read_scene,
    stage,
    table,
    value,
    view,
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

    @property
    def name(self) -> str:
        return f"({self.letter}) {self.run.method}"


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
    entries = [
        _Entry(letter, run, len(scene), photograph(scene))
        for letter, run, scene in zip(LETTERS, runs, scenes, strict=False)
    ]
    differing = _differing(runs)
    title = runs[0].prompt if "prompt" not in differing else f"{len(runs)} runs"
    body = [*_scenes(entries, differing), *_views(entries), *_measures(entries, differing)]
    body += [*_settings(entries, differing), *_training(entries), _small_print()]
    return page(title, body, GENERATOR)


def _differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The settings that are not the same in all runs, as written, by key; a dash for none."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if key not in BOOKKEEPING)
    written = {key: [_written(run.settings, key) for run in runs] for key in keys}
    return {key: values for key, values in written.items() if len(set(values)) > 1}


def _written(settings: dict[str, Any], key: str) -> str:
    """A setting as it is typed, in HTML."""
    if key not in settings:
        return "&ndash;"
    what = settings[key]
    if what is None or isinstance(what, bool):
        return {None: "null", True: "true", False: "false"}[what]
    return escape(str(what))


def _scenes(entries: Sequence[_Entry], differing: dict[str, list[str]]) -> Iterator[str]:
    """The scenes from one camera, which the reader moves."""
    rows = -(-len(entries) // MOST_COLUMNS)
    yield f'<div class="scenes" style="--columns: {-(-len(entries) // rows)}">'
    for index, entry in enumerate(entries):
        shown = stage(entry.frames, index, f"{entry.name}: {entry.run.prompt}")
        caption = _caption(index, entry, differing)
        yield f'<figure>{shown}<figcaption contenteditable="true">{caption}</figcaption></figure>'
    yield "</div>"
    fronts = [entry.run.measures.get("rotation_deg") for entry in entries]
    yield controls([entry.frames for entry in entries], fronts)


def _caption(index: int, entry: _Entry, differing: dict[str, list[str]]) -> str:
    """Method, prompt and the settings that differ, as far as there is room."""
    lines = [f"<b>{escape(entry.name)}</b>"]
    if "prompt" in differing:
        lines.append(escape(entry.run.prompt))
    keys = [k for k in differing if not k.startswith(UNCAPTIONED) and k in entry.run.settings]
    keys.sort(key=lambda key: not key.startswith("loss."))
    told = [f"{key}=<wbr>{differing[key][index]}" for key in keys[:CAPTIONED]]
    if len(keys) > CAPTIONED:
        told.append(f"and {len(keys) - CAPTIONED} more")
    if not entry.run.summary:
        told.append(escape(entry.run.progress))
    return "<br>".join([*lines, *(f"<small>{text}</small>" for text in told)])


def _views(entries: Sequence[_Entry]) -> Iterator[str]:
    """Each scene from all around, a line each."""
    yield "<h2>From all around</h2>"
    turns = range(0, AZIMUTHS, AZIMUTHS // VIEWS)
    header = ["", *(f"{360 * turn / AZIMUTHS:g}°" for turn in turns)]
    rows = (
        [entry.name, *(view(entry.frames, index, turn) for turn in turns)]
        for index, entry in enumerate(entries)
    )
    yield f'<div class="views">{table(header, rows)}</div>'


def _measures(entries: Sequence[_Entry], differing: dict[str, list[str]]) -> Iterator[str]:
    """A line of numbers for each run, the best of each measure marked if they can be compared."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.run.measures))
    alike = not any(key.startswith("measure.") for key in differing)
    columns = {name: [entry.run.measures.get(name, "") for entry in entries] for name in names}
    best = {name: _best(name, values) if alike else set() for name, values in columns.items()}
    rows = []
    for index, entry in enumerate(entries):
        summary = entry.run.summary
        cells = [value(summary.get("steps")) if summary else escape(entry.run.progress)]
        cells += [value(summary.get("seconds")), value(entry.gaussians)]
        for name in names:
            text = value(columns[name][index])
            cells.append(f"<b>{text}</b>" if index in best[name] else text)
        rows.append([entry.name, *cells])
    yield "<h2>Measures</h2>"
    yield table(["", "steps", "seconds", "Gaussians", *map(_goal, names)], rows)
    notes = ["Each line is one run: another seed gives other numbers."]
    if any(best.values()):
        notes.append("Bold is the best of its column.")
    if names and "prompt" in differing:
        notes.append("With the prompt differs the truth that a scene is held to.")
    if names and not alike:
        notes.append("None is marked best, as they were measured in different ways (measure).")
    if unmeasured := [f"({entry.letter})" for entry in entries if not entry.run.measures]:
        why = "only a finished run of one figurine is held to the truth"
        notes.append(f"Not measured: {', '.join(unmeasured)}; {why}.")
    yield f'<p class="note">{" ".join(notes)}</p>'


def _better(name: str) -> str | int | None:
    return MEASURES[name].better if name in MEASURES else None


def _goal(name: str) -> str:
    """A measure with what is best of it."""
    goal = _better(name)
    return name + {"higher": " ↑", "lower": " ↓", None: ""}.get(goal, f" → {value(goal)}")


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


def _settings(entries: Sequence[_Entry], differing: dict[str, list[str]]) -> Iterator[str]:
    """What the runs do not have in common, and where their scenes are."""
    rows = [[key, *values] for key, values in differing.items()]
    versions = [escape(entry.run.versions) for entry in entries]
    if len(set(versions)) > 1:
        rows.append(["made with", *versions])
    rows.append(["scene", *(escape(str(entry.run.scene_file)) for entry in entries)])
    yield "<h2>Settings that differ</h2>" if len(entries) > 1 else "<h2>Settings</h2>"
    yield f'<div class="settings">{table(["", *(entry.name for entry in entries)], rows)}</div>'


def _training(entries: Sequence[_Entry]) -> Iterator[str]:
    """The contact sheets of the runs that drew some on their way."""
    sheets = [
        (entry, entry.run.folder / SHEET)
        for entry in entries
        if entry.run.settings.get("log.sheet_every")
    ]
    shown = [(entry, sheet) for entry, sheet in sheets if sheet.exists()]
    if shown:
        yield "<h2>In training</h2>"
    for entry, sheet in shown:
        caption = f"<figcaption>{escape(entry.name)}</figcaption>"
        yield f"<figure>{caption}{picture(sheet, f'{entry.name} in training')}</figure>"


def _small_print() -> str:
    elevations = " and ".join(f"{angle:g}°" for angle in ELEVATIONS)
    return (
        f'<p class="note">The same cameras for all: {AZIMUTHS} azimuths at elevations of '
        f"{elevations}, distance {CAMERAS.distance[0]:g}, field of view {CAMERAS.fov[0]:g}°; over "
        f"white. Drawn by esd_splat {__version__}.</p>"
    )
