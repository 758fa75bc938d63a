"""Measure the collapse: ``python -m benchmarks.collapse --preset quick|full|fresh|study``.

Runs what has no row yet, several runs at once; writes rows as they come, so that a cut run goes on
where it was; then writes the page anew. Rows of another machine count as rows: to measure all of it
again, give another folder with ``--out``.
"""

import argparse
import difflib
import sys
from pathlib import Path

from benchmarks.collapse.experiments import EXPERIMENTS, PRESETS, TRIED
from benchmarks.collapse.page import PAGE, write_page
from benchmarks.collapse.plan import Past
from benchmarks.collapse.runs import HERE, ROWS, carry_out, read_rows


def main() -> None:
    """Run, then write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collapse", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--preset", choices=PRESETS, help="several experiments")
    what.add_argument("--only", choices=EXPERIMENTS, nargs="+", help="these experiments")
    what.add_argument("--page", action="store_true", help="run nothing, write the page")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--seeds", type=int, nargs="+", help="of each experiment only these")
    parser.add_argument("--settings", nargs="+", help="of each experiment only these")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of rows, plots and page")
    args = parser.parse_args()

    names = [] if args.page else args.only or PRESETS[args.preset]
    known = [setting for name in names for setting in EXPERIMENTS[name].settings]
    for asked in args.settings or ():
        if known and asked not in known:
            nearest = difflib.get_close_matches(asked, known, n=1, cutoff=0)[0]
            parser.error(f"--settings: {', '.join(names)} has no {asked!r}; nearest is {nearest!r}")
        found = [EXPERIMENTS[name].settings.get(asked) for name in names]
        if known and all(isinstance(setting, Past | None) for setting in found):
            parser.error(f"--settings: {asked!r} can only be run at commit {TRIED}")
    jobs = [job for name in names for job in EXPERIMENTS[name].jobs(args.settings)]
    seeds = sorted({job.seed for job in jobs})
    for asked in args.seeds or ():
        if seeds and asked not in seeds:
            nearest = min(seeds, key=lambda seed: abs(seed - asked))
            parser.error(f"--seeds: {', '.join(names)} has no {asked}; nearest is {nearest}")
    if args.seeds:
        jobs = [job for job in jobs if job.seed in args.seeds]
    if args.workers < 1:
        parser.error(f"--workers must be at least 1, got {args.workers}")
    try:
        if (args.out / PAGE).exists() and not (args.out / ROWS).exists():
            parser.error(f"--out: {args.out} has a {PAGE} and no {ROWS}; choose another folder")
        args.out.mkdir(parents=True, exist_ok=True)
        read_rows(args.out)
    except (OSError, ValueError) as error:
        parser.error(f"--out: {args.out} cannot be used: {error}")
    carry_out(jobs, args.workers, args.out)
    write_page(args.out)
    print(f"wrote {args.out / PAGE}", file=sys.stderr)


if __name__ == "__main__":
    main()
