"""The page: hand-written text with tables, plots and contact sheets made from the rows."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

import torch
from PIL import Image

from benchmarks.collapse import plots
from benchmarks.collapse.experiments import EXPERIMENTS, PRESETS, TRIED
from benchmarks.collapse.facts import LOST, Facts, losses, lost, prompts_lost, verdict_of
from benchmarks.collapse.plan import VIEW, Experiment
from benchmarks.collapse.runs import HERE, Row, folder_of, read_rows
from benchmarks.collapse.stats import Share, Signs, measured
from esd_splat.config import Measure
from esd_splat.figurines import COLOURS
from esd_splat.jinja import fill
from esd_splat.run.measure import pose_measures
from esd_splat.run.measure.posterior import FINER, pose_posterior
from esd_splat.run.measure.truth import BACKGROUND, TEMPLATE_SIZE, templates
from esd_splat.scene.cameras import Orbit
from esd_splat.show.contact_sheet import GAP

PAGE = "README.md"
COLUMNS = {
    "recognised": "recognised",
    "front_share": "front share",
    "MI": "MI",
    "psnr_aligned": "PSNR, dB",
    "seconds": "seconds",
}
SCORES = {
    "null_error": "null error",
    "pool_error": "pool's error",
    "gap_cosine": "cosine",
    "camera_error": "camera error",
    "camera_error_shuffled": "with another camera",
    "camera_weight": "LoRA's weight",
    "effective_weight": "effective weight",
}
"""Of diagnosed runs, at ``runs.DIAGNOSED``. A table has those that any of its runs has."""
DIAGNOSES = HERE / "diagnoses"
"""``diagnostics.csv`` of single runs; the text says by which command."""
STRIPS = "strips"
"""Folder of the pictures of single runs, beside the page."""
DIAGNOSED = {
    "t": ("null_error", "null_error_teacher", "gap_exact", "gap_cosine", "view_information"),
    "step": (
        *("camera_error", "camera_error_shuffled", "camera_error_teacher", "camera_weight"),
        *("null_error", "pool_error", "effective_weight"),
    ),
}
"""What the diagnosis of a run shows over its noise levels at the end, and over its steps."""
VIEWS = 8
"""Views in a row of the contact sheets."""

Part = Callable[[Experiment, Sequence[Row], Path], str]
"""A part of the page that is made of the rows of an experiment."""


def write_page(folder: Path) -> None:
    """``README.md`` in ``folder`` from its ``rows.jsonl``, with plots beside it.

    The text is the template ``text.md`` beside this module. It calls the parts of the page and the
    methods of ``Facts`` by name.
    """
    rows, strips = read_rows(folder), folder / STRIPS
    strips.mkdir(exist_ok=True)

    def part(draw: Part) -> Callable[[str], str]:
        def drawn(name: str) -> str:
            experiment = EXPERIMENTS[name]
            if not any(experiment.rows(setting, rows) for setting in experiment.settings):
                return f"*{experiment.question}* Not run yet."
            return draw(experiment, rows, folder)

        return drawn

    parts = {name: part(draw) for name, draw in PARTS.items()}
    text = fill(
        HERE / "text.md",
        **parts,
        **Facts(rows).by_name(),
        diagnosis=lambda name, at=None: diagnosis(DIAGNOSES / f"{name}.csv", at),
        truth=lambda kind: f"{information_of_truth(kind):.2f}",
        of_prompts=Share,
        sign_test=Signs,
        tried=TRIED,
    )
    (folder / PAGE).write_text(text)
    clear(strips, text)


def table(experiment: Experiment, rows: Sequence[Row], folder: Path) -> str:
    """Losses and means with intervals, a line a setting."""
    columns = COLUMNS | (_scores(experiment, rows) if experiment.diagnosed else {})
    titles = ["setting", "runs", *LOST, "prompts lost", *columns.values()]
    lines = [
        f"*{experiment.question}* {len(experiment.prompts)} prompts, seeds "
        f"{', '.join(map(str, experiment.seeds))}.",
        "",
        f"| {' | '.join(titles)} |",
        "|---" * len(titles) + "|",
    ]
    typed, missing = [""], []
    for name, setting in experiment.settings.items():
        here = experiment.rows(name, rows)
        if not here:
            missing.append(f"{name} (`{setting.label}`)")
            continue
        ends = [verdict_of(row) for row in here]
        cells = [name, len(here), *(ends.count(way) for way in LOST), prompts_lost(here)]
        cells += [measured(here, column) or "-" for column in columns]
        lines.append(f"| {' | '.join(map(str, cells))} |")
        typed.append(f"- {name}: `{setting.label}`")
    lines += typed
    if alone := _of_one_prompt(experiment, rows):
        lines += ["", f"Settings whose lost runs are all of one prompt: {alone}."]
    if missing:
        lines += ["", f"Not run yet: {', '.join(missing)}."]
    return "\n".join(lines)


def _scores(experiment: Experiment, rows: Sequence[Row]) -> dict[str, str]:
    """Those of ``SCORES`` that any run of the experiment has."""
    own = [row for name in experiment.settings for row in experiment.rows(name, rows)]
    return {score: title for score, title in SCORES.items() if any(score in row for row in own)}


def _of_one_prompt(experiment: Experiment, rows: Sequence[Row]) -> str:
    """The settings whose lost runs are all of one prompt, with that prompt."""
    found: dict[str, list[str]] = {}
    for name in experiment.settings:
        prompts = {row["prompt"] for row in experiment.rows(name, rows) if lost(row)}
        if len(prompts) == 1:
            found.setdefault(prompts.pop(), []).append(name)
    return "; ".join(f"{', '.join(names)} ({prompt})" for prompt, names in found.items())


def versus(experiment: Experiment, rows: Sequence[Row], folder: Path) -> str:
    """The first setting against each of the others, over the runs of the same prompt and seed."""
    facts, (own, *others) = Facts(rows), experiment.settings
    titles = (f"{own} against", "lost on", f"{own} nearer on", f"{own} nearer by, dB", "time")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for other in others:
        pair = experiment.name, own, other
        lost_on = facts.more_lost(experiment.name, other, own)
        cells = (other, lost_on, facts.nearer(*pair), facts.gain(*pair), facts.times(*pair))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def per_prompt(experiment: Experiment, rows: Sequence[Row], folder: Path) -> str:
    """The lost runs of all runs, and mean MI, of every prompt by every setting."""
    names = [name for name in experiment.settings if experiment.rows(name, rows)]
    lines = ["| prompt | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for prompt in experiment.prompts:
        cells = []
        for name in names:
            here = [r for r in experiment.rows(name, rows) if r["prompt"] == prompt]
            mi = sum(r["MI"] for r in here) / max(1, len(here))
            cells.append(f"{losses(here)}, {mi:.2f}" if here else "-")
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
    long as the page shows it, see ``clear``.
    """
    blocks = []
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
            file = folder / STRIPS / f"{run.parent.name}-{run.name}.png"
            if (sheet := run / "contact_sheet.png").exists():
                strip(sheet).save(file)
            title = f"{name}, {rank} by MI ({row['MI']:.2f}): {row['prompt']}, seed {row['seed']}"
            picture = f"![]({STRIPS}/{file.name})" if file.exists() else "No picture here."
            blocks.append(f"{title}\n\n{picture}")
    return "\n\n".join(blocks)


def clear(strips: Path, text: str) -> None:
    """Delete the pictures in ``strips`` that ``text`` does not show."""
    for file in strips.iterdir():
        if f"({STRIPS}/{file.name})" not in text:
            file.unlink()


def diagnosis(file: Path, at: float | None = None) -> str:
    """The last diagnosis of a run, a line a noise level; or all of one level, a line a step."""
    if not file.exists():
        return "Not yet."
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    end = rows[-1]["step"]
    shown = [row for row in rows if (row["step"] == end if at is None else float(row["t"]) == at)]
    first = "t" if at is None else "step"
    columns = [name for name in DIAGNOSED[first] if shown[0].get(name)]
    table = [f"| {first} | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for row in shown:
        cells = [f"{float(row[name]):.2g}" for name in columns]
        table.append(f"| {row[first]} | {' | '.join(cells)} |")
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


PARTS: dict[str, Part] = {
    "table": table,
    "versus": versus,
    "prompt_table": per_prompt,
    "factor": factor,
    "chart": chart,
    "frontier": frontier,
    "objects": objects,
    "sheets": sheets,
}


def strip(contact_sheet: Path) -> Image.Image:
    """Its last row, which shows the finished scene; left of it stands the step."""
    sheet = Image.open(contact_sheet)
    right, bottom = sheet.size
    width = VIEWS * (VIEW + GAP) - GAP
    return sheet.crop((right - width, bottom - VIEW, right, bottom))
