"""The page: hand-written text with tables, plots and contact sheets made from the rows."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch
from PIL import Image

from benchmarks.collapse import plots
from benchmarks.collapse.experiments import EXPERIMENTS, PRESETS, TRIED
from benchmarks.collapse.plan import VIEW, Experiment
from benchmarks.collapse.runs import HERE, Row, folder_of, read_rows
from benchmarks.collapse.stats import measured
from esd_splat.config import Measure
from esd_splat.figurines import COLOURS
from esd_splat.run.measure import pose_measures
from esd_splat.run.measure.posterior import FINER, pose_posterior
from esd_splat.run.measure.truth import BACKGROUND, TEMPLATE_SIZE, templates
from esd_splat.scene.cameras import Orbit
from esd_splat.show.contact_sheet import GAP

PAGE = "README.md"
COLUMNS = {
    "janus": "Janus rate",
    "recognised": "recognised",
    "faces": "faces",
    "front_share": "front share",
    "MI": "MI",
    "psnr_aligned": "PSNR, dB",
    "seconds": "seconds",
}
SCORES = {"null_error": "null error", "gap_cosine": "cosine"}
"""Of diagnosed runs, at ``runs.DIAGNOSED``."""
DIAGNOSES = HERE / "diagnoses"
"""``diagnostics.csv`` of single runs; the text says by which command."""
STRIPS = "strips"
"""Folder of the pictures of single runs, beside the page."""
DIAGNOSED = ("null_error", "null_error_teacher", "gap_exact", "gap_cosine", "view_information")
VIEWS = 8
"""Views in a row of the contact sheets."""


def write_page(folder: Path) -> None:
    """``README.md`` in ``folder`` from its ``rows.jsonl``, with plots beside it.

    The text is ``text.md`` beside this module; ``{{table NAME}}`` and the like are filled in.
    """
    rows = read_rows(folder)

    def fill(match: re.Match[str]) -> str:
        kind, _, name = match.group(1).partition(" ")
        if kind == "tried":
            return f"`{TRIED}`"
        if kind == "diagnosis":
            return diagnosis(DIAGNOSES / f"{name}.csv")
        if kind == "faceless":
            lost = [row for row in rows if row["janus"] and _told(row) == (name == "told")]
            fronts = [row["front_share"] for row in lost]
            return f"{fronts.count(0)} of {len(fronts)}"
        if kind == "truth":
            return f"{information_of_truth(name):.2f}"
        experiment = EXPERIMENTS[name]
        if not any(experiment.rows(setting, rows) for setting in experiment.settings):
            return f"*{experiment.question}* Not run yet."
        return FILL[kind](experiment, rows, folder)

    text = re.sub(r"\{\{(.+?)\}\}", fill, (HERE / "text.md").read_text())
    (folder / PAGE).write_text(text)


def table(experiment: Experiment, rows: Sequence[Row], folder: Path) -> str:
    """Means with intervals, a line a setting."""
    columns = COLUMNS | (SCORES if experiment.diagnosed else {})
    lines = [
        f"*{experiment.question}* {len(experiment.prompts)} prompts, seeds "
        f"{', '.join(map(str, experiment.seeds))}.",
        "",
        "| setting | runs | " + " | ".join(columns.values()) + " |",
        "|---" * (2 + len(columns)) + "|",
    ]
    typed, missing = [""], []
    for name, setting in experiment.settings.items():
        here = experiment.rows(name, rows)
        if not here:
            missing.append(f"{name} (`{setting.label}`)")
            continue
        cells = [str(measured(here, column) or "-") for column in columns]
        lines.append(f"| {name} | {len(here)} | {' | '.join(cells)} |")
        typed.append(f"- {name}: `{setting.label}`")
    lines += typed
    if missing:
        lines += ["", f"Not run yet: {', '.join(missing)}."]
    return "\n".join(lines)


def per_prompt(experiment: Experiment, rows: Sequence[Row], folder: Path) -> str:
    """Janus runs of all runs, and mean MI, of every prompt by every setting."""
    names = [name for name in experiment.settings if experiment.rows(name, rows)]
    lines = ["| prompt | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for prompt in experiment.prompts:
        cells = []
        for name in names:
            here = [r for r in experiment.rows(name, rows) if r["prompt"] == prompt]
            mi = sum(r["MI"] for r in here) / max(1, len(here))
            cells.append(f"{sum(r['janus'] for r in here)}/{len(here)}, {mi:.2f}" if here else "-")
        lines.append(f"| {prompt} | {' | '.join(cells)} |")
    return "\n".join(lines)


def factor(experiment: Experiment, rows: Sequence[Row], folder: Path) -> str:
    """A table and its plot."""
    plots.factor(experiment, rows, folder / f"{experiment.name}.png")
    return table(experiment, rows, folder) + f"\n\n![]({experiment.name}.png)"


def chart(experiment: Experiment, rows: Sequence[Row], folder: Path) -> str:
    """A grid of two factors as a picture."""
    plots.chart(experiment, rows, folder / f"{experiment.name}.png")
    return f"![]({experiment.name}.png)"


def frontier(experiment: Experiment, rows: Sequence[Row], folder: Path) -> str:
    """Every setting of every experiment; those of ``experiment`` by name."""
    others = [EXPERIMENTS[name] for name in PRESETS["study"]]
    plots.frontier(experiment, others, rows, folder / "frontier.png")
    return "![](frontier.png)"


def objects(experiment: Experiment, rows: Sequence[Row], folder: Path) -> str:
    """The frontier of every kind of object."""
    plots.objects(experiment, rows, folder / "objects.png")
    return "![](objects.png)"


def sheets(experiment: Experiment, rows: Sequence[Row], folder: Path) -> str:
    """Best, median and worst run of every setting, by MI: eight views each, a file each.

    A run's own pictures are on the machine that made it. What was cut out of them stays here for as
    long as the page shows it.
    """
    blocks, shown = [], set()
    strips = folder / STRIPS
    strips.mkdir(exist_ok=True)
    for name in experiment.settings:
        ranked = sorted(experiment.rows(name, rows), key=lambda row: -row["MI"])
        if not ranked:
            continue
        for rank, row in zip(
            ("best", "median", "worst"),
            (ranked[0], ranked[len(ranked) // 2], ranked[-1]),
            strict=True,
        ):
            run = folder_of(row)
            file = strips / f"{run.parent.name}-{run.name}.png"
            if (sheet := run / "contact_sheet.png").exists():
                strip(sheet).save(file)
            shown.add(file)
            title = f"{name}, {rank} by MI ({row['MI']:.2f}): {row['prompt']}, seed {row['seed']}"
            picture = f"![]({STRIPS}/{file.name})" if file.exists() else "No picture here."
            blocks.append(f"{title}\n\n{picture}")
    for file in {*strips.iterdir()} - shown:
        file.unlink()
    return "\n\n".join(blocks)


def diagnosis(file: Path) -> str:
    """The last diagnosis of a run, a line a noise level."""
    if not file.exists():
        return "Not yet."
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    last = [row for row in rows if row["step"] == rows[-1]["step"]]
    columns = [name for name in DIAGNOSED if last[0].get(name)]
    table = ["| t | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for row in last:
        cells = [f"{float(row[name]):.2g}" for name in columns]
        table.append(f"| {row['t']} | {' | '.join(cells)} |")
    return "\n".join(table)


def information_of_truth(kind: str) -> float:
    """MI of a true figurine, in nats, as a run is measured: the mean over colours."""
    config = Measure()
    bank = templates((kind,), FINER * config.views, Orbit(), config.elevation, TEMPLATE_SIZE)
    grey = torch.full((FINER * config.views, 3), BACKGROUND)
    found = []
    for index, colour in enumerate(COLOURS):
        views = bank.over(kind, colour, grey)[::FINER]
        apart = bank.distances(views, grey[::FINER])[:, 0, index]
        found.append(pose_measures(pose_posterior(apart, 0.0))["MI"] or 0.0)
    return mean(found)


FILL = {
    "table": table,
    "prompts": per_prompt,
    "factor": factor,
    "chart": chart,
    "frontier": frontier,
    "objects": objects,
    "sheets": sheets,
}


def _told(row: Row) -> bool:
    """Whether the teacher was told which side it looked at."""
    return row["keys"].get("teacher.views.enabled", False)


def strip(contact_sheet: Path) -> Image.Image:
    """Its last row, which shows the finished scene; left of it stands the step."""
    sheet = Image.open(contact_sheet)
    right, bottom = sheet.size
    width = VIEWS * (VIEW + GAP) - GAP
    return sheet.crop((right - width, bottom - VIEW, right, bottom))
