"""The page: hand-written text with tables, plots and contact sheets made from the rows."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch
from PIL import Image, ImageDraw

from benchmarks.collapse import plots
from benchmarks.collapse.experiments import EXPERIMENTS, PRESETS, TRIED
from benchmarks.collapse.plan import Experiment
from benchmarks.collapse.runs import HERE, Row, folder_of, read_rows
from benchmarks.collapse.stats import measured
from esd_splat.cameras import Orbit
from esd_splat.export.sheet import GAP
from esd_splat.figurines import COLOURS
from esd_splat.measure import Measure, pose_measures
from esd_splat.measure.posterior import FINER, pose_posterior
from esd_splat.measure.truth import BACKGROUND, TEMPLATE_SIZE, templates

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
DIAGNOSED = ("null_error", "null_error_teacher", "gap_exact", "gap_cosine", "view_information")
VIEW, VIEWS = 64, 8
"""Pixels a view on the contact sheets, and views in a row."""


def write_page(folder: Path) -> None:
    """``README.md`` in ``folder`` from its ``rows.jsonl``, with plots beside it.

    The text is ``text.md`` beside this module; ``{{table NAME}}`` and the like are filled in. A
    contact sheet needs the runs' own pictures: without them the one that is there stays.
    """
    rows = read_rows(folder)

    def fill(match: re.Match[str]) -> str:
        kind, _, name = match.group(1).partition(" ")
        if kind == "tried":
            return f"`{TRIED}`"
        if kind == "diagnosis":
            return diagnosis(DIAGNOSES / f"{name}.csv")
        if kind == "truth":
            return f"{information_of_truth(name):.2f}"
        experiment = EXPERIMENTS[name]
        if not any(experiment.rows(setting, rows) for setting in experiment.settings):
            return f"*{experiment.question}* Not run yet."
        return FILL[kind](experiment, rows, folder)

    text = re.sub(r"\{\{(.+?)\}\}", fill, (HERE / "text.md").read_text())
    (folder / "README.md").write_text(text)


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


def sheets(experiment: Experiment, rows: Sequence[Row], folder: Path) -> str:
    """Best, median and worst run of every setting, by MI: eight views each."""
    strips, missing = [], 0
    for name in experiment.settings:
        ranked = sorted(experiment.rows(name, rows), key=lambda row: -row["MI"])
        if not ranked:
            continue
        for rank, row in zip(
            ("best", "median", "worst"),
            (ranked[0], ranked[len(ranked) // 2], ranked[-1]),
            strict=True,
        ):
            file = folder_of(row) / "contact_sheet.png"
            missing += not file.exists()
            title = f"{name}, {rank} by MI ({row['MI']:.2f}), {row['prompt']}, seed {row['seed']}"
            strips.append((file, title))
    target = folder / f"{experiment.name}_sheets.png"
    if missing:
        print(f"{target.name}: the pictures of {missing} runs are not on this machine; left alone")
    elif strips:
        _paste(strips).save(target)
    return f"![]({target.name})" if target.exists() else "No pictures yet."


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
    "sheets": sheets,
}


def _paste(strips: Sequence[tuple[Path, str]]) -> Image.Image:
    sheets = [Image.open(file) for file, _ in strips]
    line, width = VIEW + 14, VIEWS * (VIEW + GAP) - GAP
    page = Image.new("RGB", (width, line * len(strips)), "white")
    draw = ImageDraw.Draw(page)
    for index, (sheet, (_, title)) in enumerate(zip(sheets, strips, strict=True)):
        draw.text((2, index * line), title, fill="black")
        # The last row; left of it stands its step.
        right, bottom = sheet.size
        last = sheet.crop((right - width, bottom - VIEW, right, bottom))
        page.paste(last, (0, index * line + 13))
    return page
