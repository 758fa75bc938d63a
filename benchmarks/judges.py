"""How far the teacher judge agrees with the truth: ``python -m benchmarks.judges RUN...``.

The runs are finished ones of figurines, so their ``summary.json`` holds what is true. The judge
sees the same views, but knows only the prompt. Nothing about the judge was chosen on such runs.
"""

import argparse
import datetime
import json
import platform
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from esd_splat import load_config, load_ply, rasterize
from esd_splat.config import Config
from esd_splat.errors import EsdSplatError
from esd_splat.files import write_text
from esd_splat.run.measure.faces import VERDICTS, verdict
from esd_splat.run.measure.intervals import exact_interval
from esd_splat.run.measure.judges import (
    Judge,
    TeacherJudge,
    agreement,
    colours,
    judge_views,
    surfaces,
)
from esd_splat.run.measure.judges.agreement import kappa
from esd_splat.run.measure.truth import BACKGROUND

RESULTS = Path(__file__).parent / "results" / "judges.md"
WANTED = 40
SEEDS = (1, 2, 3)
"""Of the traced pictures. The levels of the judge were chosen on others."""
PAGE = """\
# The teacher as a judge of faces

{when}, `python -m benchmarks.judges RUN...`. The judge is the embedded teacher with its default
settings. It takes {seconds:.1f} s for the 16 views of a run on one thread.

## Pictures whose side is known

Rows are the true side, columns what the judge says, both in the order front, side, back.

| Pictures | Seed | Confusion | Kappa |
|---|---|---|---|
{pictures}

## Finished runs

{count} runs ({wanted} are wanted), of which {bad} do not have one face. By runs, the judge agrees
with the truth about "one face or not" in {right} of {count}: {share:.3g} [{low:.3g}, {high:.3g}],
kappa {kappa:.2f}. The interval is the exact one of Clopper and Pearson at 95 %, as if runs were
independent.

| Truth | Judge: one face | Judge: not |
|---|---|---|
| one face | {confusion[0][0]} | {confusion[0][1]} |
| not | {confusion[1][0]} | {confusion[1][1]} |

| Prompt | Seed | Loss | Steps | Truth | Judge |
|---|---|---|---|---|---|
{runs}
"""


@dataclass(frozen=True)
class Judged:
    """One run, what is true of it, and what the judge found."""

    prompt: str
    seed: int
    loss: str
    steps: int
    truth: str
    found: str

    @property
    def line(self) -> str:
        """A row of the table."""
        return "| " + " | ".join(map(str, vars(self).values())) + " |"


def judged(folder: Path, judges: dict[Any, Judge]) -> Judged:
    """Judge one finished run.

    Args:
        folder: the folder of the run.
        judges: those loaded so far, by the configuration of their teacher. It is added to.

    Raises:
        EsdSplatError: the run is unfinished, or its truth is not known.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise EsdSplatError(f"{folder}: has no summary.json; give finished runs") from error
    if not (measures := summary.get("measures")):
        raise EsdSplatError(f"{folder}: has no measures; give runs of figurines")
    config = load_config(folder / "config.yaml")
    if config.teacher not in judges:
        teacher = config.teacher.load(torch.device("cpu"), torch.float32)
        judges[config.teacher] = TeacherJudge().load(teacher, config.teacher)
    generator = torch.Generator().manual_seed(config.seed)
    found = judge_views(judges[config.teacher], views(folder, config), config.prompt, generator)
    return Judged(
        config.prompt,
        config.seed,
        type(config.loss).__name__.lower(),
        summary["steps"],
        verdict(measures["faces"], measures["front_share"]),
        found["verdict"],
    )


@torch.no_grad()
def views(folder: Path, config: Config) -> torch.Tensor:
    """Render the views that the run was measured by."""
    measure, scene = config.measure, load_ply(folder / "scene.ply")
    cameras = config.cameras.turntable(measure.views, measure.elevation)
    grey = torch.full((measure.views, 3), BACKGROUND)
    return rasterize(scene, cameras, grey, "auto").images.clamp(0, 1)


def confusion_of(runs: Sequence[Judged]) -> list[list[int]]:
    """Count the runs. Rows are the truth, columns the judge, both "one face" first."""
    counts = Counter((run.truth != VERDICTS[0], run.found != VERDICTS[0]) for run in runs)
    return [[counts[truth, found] for found in (False, True)] for truth in (False, True)]


def page(runs: Sequence[Judged], pictures: Sequence[str], seconds: float) -> str:
    """Return the results as Markdown."""
    confusion = confusion_of(runs)
    right = confusion[0][0] + confusion[1][1]
    low, high = exact_interval(right, len(runs))
    return PAGE.format(
        when=f"{datetime.date.today()}, {platform.machine()}, torch {torch.__version__}",
        seconds=seconds,
        pictures="\n".join(pictures),
        count=len(runs),
        wanted=WANTED,
        bad=sum(confusion[1]),
        right=right,
        share=right / len(runs),
        low=low,
        high=high,
        kappa=kappa(confusion),
        confusion=confusion,
        runs="\n".join(run.line for run in runs),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Judge the runs, print what is found, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    judges: dict[Any, Judge] = {}
    runs, started = [], time.process_time()
    for folder in args.runs:
        runs.append(judged(folder, judges))
        print(runs[-1].line, flush=True)
    seconds = (time.process_time() - started) / len(runs)
    pictures = []
    for name, photographer in {"colours": colours, "normals": surfaces}.items():
        for seed in args.seeds:
            known = agreement(next(iter(judges.values())), seed, photographer=photographer)
            rows = "; ".join(" ".join(map(str, row)) for row in known.confusion)
            trust = "" if known.trusted else ", not to be trusted"
            pictures.append(f"| {name} | {seed} | {rows} | {known.kappa:.2f}{trust} |")
            print(pictures[-1], flush=True)
    write_text(args.out, page(runs, pictures, seconds))


if __name__ == "__main__":
    main()
