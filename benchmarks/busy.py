"""How a run fares on busy cores, by how its threads wait: ``python -m benchmarks.busy --write``.

Short runs of ``configs/esd.yaml`` are timed alone, and beside one loop for each core that does
nothing but keep it busy: a fair share is then half of the time. Threads of libgomp spin while they
wait for one another, and all spin in vain while one of them waits for a core. Environment variables
set how long they spin before they sleep. The ways take turns, so that whatever else the machine
does falls on all of them alike. Seconds are those of ``summary.json``, without the start.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

RESULT = Path(__file__).parent / "results" / "busy.md"
WAYS = {
    "as libgomp does by itself": {"GOMP_SPINCOUNT": "300000"},
    "as `esd_splat` asks": {},
    "`GOMP_SPINCOUNT=1000`": {"GOMP_SPINCOUNT": "1000"},
    "`OMP_WAIT_POLICY=passive`": {"OMP_WAIT_POLICY": "passive"},
    "`OMP_NUM_THREADS=1`": {"OMP_NUM_THREADS": "1"},
}
"""Environment variables of a run. The first is libgomp's own number where none is set."""


def seconds(way: dict[str, str], steps: int) -> float:
    """Return how long the steps of a run take."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    with tempfile.TemporaryDirectory() as folder:
        keys = ["prompt=a red owl", "device=cpu", f"steps={steps}", f"out={folder}/run"]
        call = [sys.executable, "-m", "esd_splat.fit", "--config", "esd", *keys]
        subprocess.run(call, env=plain | way, check=True, capture_output=True)
        return json.loads(Path(folder, "run", "summary.json").read_text())["seconds"]


def beside_loops(way: dict[str, str], steps: int) -> float:
    """Return ``seconds`` beside as many busy loops as there are cores."""
    loop = [sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(loop) for _ in range(os.cpu_count() or 1)]
    try:
        return seconds(way, steps)
    finally:
        for process in loops:
            process.kill()
            process.wait()


def main() -> None:
    """Measure, print a table, and write it where ``--write`` says so."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--write", action="store_true", help=f"the table into {RESULT.name}")
    args = parser.parse_args()
    alone: dict[str, list[float]] = {name: [] for name in WAYS}
    beside: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(args.rounds):
        for name, way in WAYS.items():
            alone[name].append(seconds(way, args.steps))
            beside[name].append(beside_loops(way, args.steps))
            print(f"{name}: {alone[name][-1]:.1f} s, {beside[name][-1]:.1f} s", flush=True)
    lines = [
        "| threads wait | alone, s | beside busy loops, s | times as long |",
        "|---|---|---|---|",
    ]
    for name in WAYS:
        middle = statistics.median(alone[name])
        times = [value / middle for value in beside[name]]
        columns = [(alone[name], "{:.1f}"), (beside[name], "{:.1f}"), (times, "{:.2f}")]
        cells = [
            f"{form.format(statistics.median(values))} "
            f"({form.format(min(values))} to {form.format(max(values))})"
            for values, form in columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    table = "\n".join(lines)
    print(table)
    if args.write:
        RESULT.write_text(
            "# A run on busy cores\n\n"
            f"{args.steps} steps of `configs/esd.yaml` with two threads but where a row says "
            "otherwise, alone and beside one busy loop for each core; medians of "
            f"{args.rounds} runs by turns, from least to most. A fair share is 2.\n\n"
            f"`python -m benchmarks.busy --rounds {args.rounds} --steps {args.steps} --write`, "
            f"{os.cpu_count()} cores, torch {torch.__version__}:\n\n{table}\n"
        )


if __name__ == "__main__":
    main()
