"""SDS, VSD and ESD on the same prompts, in every measure: ``python -m benchmarks.methods``.

Each run is the ordinary command in a process of its own; finished runs are kept, so a cut
benchmark goes on where it was.
"""

import argparse
import datetime
import json
import os
import platform
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image

ROOT = Path(__file__).parent.parent
METHODS = ("sds", "vsd", "esd")
PROMPTS = (
    "a red owl",
    "a blue cat",
    "a green robot",
    "a white rabbit",
    "an orange duck",
    "a yellow snowman",
    "a purple owl",
    "an orange car",
)
"""Kinds and colours mixed; the last two pairs were held out of the teacher's training."""
MEASURES = (
    *("recognised", "faces", "front_share", "janus", "IQ", "IV", "IG", "MI", "psnr_aligned"),
    *("seconds", "gaussians", "peak_memory_mb"),
)
RESAMPLES = 2000


def main() -> None:
    """Run what is missing, then write the rows and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=ROOT / "outputs" / "methods")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "methods")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--prompts", nargs="+", default=list(PROMPTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="given to every run")
    args = parser.parse_args()

    jobs = [(m, p, s) for s in args.seeds for p in args.prompts for m in args.methods]
    with ThreadPoolExecutor(args.workers) as pool:
        rows = list(pool.map(lambda job: fit(*job, runs=args.runs, overrides=args.overrides), jobs))
    args.out.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row) for row in rows)
    (args.out / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (args.out / "README.md").write_text(page(rows, args))
    sheet(args, size=64).save(args.out / "sheets.png")
    print((args.out / "README.md").read_text())


def folder_of(runs: Path, method: str, prompt: str, seed: int) -> Path:
    """Where a run is kept."""
    return runs / f"{method}-{prompt.replace(' ', '-')}-s{seed}"


def sheet(args: argparse.Namespace, size: int) -> Image.Image:
    """The finished scenes of the first seed from all around: prompts down, methods across."""
    strips = [
        [
            Image.open(folder_of(args.runs, m, p, args.seeds[0]) / "contact_sheet.png")
            for m in args.methods
        ]
        for p in args.prompts
    ]
    width, gap = strips[0][0].width, 24
    page = Image.new("RGB", ((width + gap) * len(args.methods) - gap, size * len(strips)), "white")
    for row, images in enumerate(strips):
        for column, image in enumerate(images):
            last = image.crop((0, image.height - size, width, image.height))
            page.paste(last, (column * (width + gap), row * size))
    return page


def fit(method: str, prompt: str, seed: int, *, runs: Path, overrides: list[str]) -> dict[str, Any]:
    """One run's summary, as a flat row."""
    folder = folder_of(runs, method, prompt, seed)
    if not (folder / "summary.json").exists():
        command = [sys.executable, "-m", "esd_splat.fit", "--quiet", "--config", method]
        command += [f"prompt={prompt}", f"seed={seed}", f"out={folder}"]
        command += ["resume=true"] if folder.exists() else []
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *overrides], check=True, cwd=ROOT, env=environment)
    summary = json.loads((folder / "summary.json").read_text())
    measures = summary.pop("measures")
    print(f"{method} {prompt} {seed}: {json.dumps(measures)}", flush=True)
    return {"method": method, **summary, **measures}


def page(rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """The committed table: means with 95 % bootstrap intervals, then every run."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = [
        "# SDS, VSD and ESD on the embedded teacher",
        "",
        f"    python -m benchmarks.methods --seeds {' '.join(map(str, args.seeds))} "
        + " ".join(args.overrides),
        "",
        f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, "
        f"{args.workers} processes of one thread. {len(args.prompts)} prompts x "
        f"{len(args.seeds)} seeds, {rows[0]['steps']} steps; each method's settings are those of "
        'its file in `configs/`, chosen on "a yellow cat" and "a green owl", seed 0; the view '
        'words in the prompts on "a red owl", seed 0, which stands in this table too. A mean over '
        "prompts and seeds, then its 95 % bootstrap interval "
        "(runs resampled): a difference inside it is not shown to be one.",
        "",
        "| measure | " + " | ".join(methods) + " |",
        "|---" * (1 + len(methods)) + "|",
    ]
    for name in MEASURES:
        cells = []
        for method in methods:
            values = [r[name] for r in rows if r["method"] == method and r[name] is not None]
            cells.append(_interval([float(value) for value in values]))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", f"From all around, {', '.join(methods)}:", "", "![](sheets.png)"]
    lines += ["", "| prompt | seed | method | " + " | ".join(MEASURES) + " |"]
    lines.append("|---" * (3 + len(MEASURES)) + "|")
    for row in rows:
        cells = [_short(row[name]) for name in MEASURES]
        lines.append(f"| {row['prompt']} | {row['seed']} | {row['method']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _interval(values: list[float]) -> str:
    """``mean [low, high]`` of the bootstrap of the mean."""
    if not values:
        return "-"
    rng = random.Random(0)
    means = sorted(mean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    return f"{_short(mean(values))} [{_short(low)}, {_short(high)}]"


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, (bool, str)) else f"{value:.3g}"


if __name__ == "__main__":
    main()
