"""Carries out runs in several processes and keeps what they found, a line each, as they come."""

import csv
import datetime
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.collapse.plan import DRAWN, Job

if TYPE_CHECKING:
    from esd_splat.config import Config

HERE = Path(__file__).parent
ROWS = "rows.jsonl"
OUTPUTS = HERE.parent.parent / "outputs" / "collapse"
"""Where runs leave their pictures: too many to commit."""
PACKAGES = ("torch", "diffusers", "peft")
COLLAPSED = {"janus": True, "recognised": 0.0, "faces": 0, "front_share": 0.0, "MI": 0.0}
"""What a run that diverged counts as, beside its error."""
PATIENCE = 5
"""Seconds between attempts at a folder that another process has."""
DIAGNOSED = 0.9
"""Noise level, as a fraction of T, that a diagnosed run's row has the scores of."""
SCORES = (
    *("null_error", "null_error_teacher", "pool_error", "gap_cosine"),
    *("camera_error", "camera_error_shuffled", "camera_weight", "effective_weight"),
)

Row = dict[str, Any]


def read_rows(folder: Path = HERE) -> list[Row]:
    """Every finished run on record in ``folder``."""
    file = folder / ROWS
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def carry_out(jobs: Iterable[Job], workers: int, folder: Path = HERE) -> None:
    """Every job that has no row yet, and a row for each as soon as it is done.

    Args:
        jobs: in the order to start them in.
        workers: processes, of one thread each.
        folder: of the record, which the rows are added to.
    """
    done = {(_digest(row["keys"]), row["prompt"], row["seed"]) for row in read_rows(folder)}
    left: dict[tuple[str, str, int], Job] = {}
    for job in jobs:
        key = (_digest(job.setting.keys), job.prompt, job.seed)
        if key not in done:
            left.setdefault(key, job)
    # Threads are counted when a process loads torch, and a fork would inherit ours.
    os.environ["OMP_NUM_THREADS"] = "1"
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        running = [pool.submit(_run, job) for job in left.values()]
        try:
            for count, future in enumerate(as_completed(running), start=1):
                row = future.result()
                with (folder / ROWS).open("a") as file:
                    file.write(json.dumps(row) + "\n")
                what = f"{row['setting']}: {row['prompt']}, seed {row['seed']}"
                found = {name: row[name] for name in ("recognised", "faces", "MI")}
                print(f"{count}/{len(left)} {what}: {found}", flush=True)
        except BaseException:
            # Else the pool would go on through everything that is left before it said why.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def folder_of(row: Row) -> Path:
    """Where a run's pictures are, on the machine that made it."""
    name = f"{row['prompt'].replace(' ', '-')}-s{row['seed']}"
    return OUTPUTS / _digest(row["keys"]) / name


def _run(job: Job) -> Row:
    from esd_splat import load_config
    from esd_splat.errors import RunError

    row: Row = {"setting": job.setting.label, "keys": job.setting.keys}
    row |= {"prompt": job.prompt, "seed": job.seed, **_circumstances()}
    folder = folder_of(row)
    given = [
        f"log.diagnose_every={2**30 if job.diagnosed else 0}",
        f"prompt={job.prompt}",
        f"seed={job.seed}",
        f"out={folder}",
        "overwrite=true",
    ]
    config = load_config(job.setting.config, [*job.setting.overrides, *DRAWN, *given])
    # A run has one thread, so this is what it takes alone, whatever else the machine is doing.
    started = time.process_time()
    try:
        summary = _fitted(config)
    except RunError as error:
        return row | {"error": str(error), **COLLAPSED}
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    row |= {name: summary[name] for name in ("steps", "gaussians")}
    row["seconds"] = round(time.process_time() - started, 2)
    return row | summary["measures"] | (_scores(folder) if job.diagnosed else {})


def _fitted(config: "Config") -> Row:
    """The summary of the run, once no worker of a killed benchmark is at it any more."""
    from esd_splat import fit
    from esd_splat.errors import BusyError

    while True:
        try:
            return fit(config, quiet=True)
        except BusyError:
            time.sleep(PATIENCE)


def _scores(folder: Path) -> Row:
    """How far the finished run's predictions were from the exact ones."""
    with (folder / "diagnostics.csv").open() as lines:
        last = [line for line in csv.DictReader(lines) if float(line["t"]) == DIAGNOSED][-1]
    return {name: float(last[name]) for name in SCORES if last.get(name)}


def _circumstances() -> Row:
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": str(datetime.date.today()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": commit,
    }


def _digest(keys: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:12]
