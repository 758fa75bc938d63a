"""``python -m esd_splat.report``: writes the page of each run, pictures and curves in one file."""

import sys
from collections.abc import Sequence
from pathlib import Path

from esd_splat import command
from esd_splat.files import write_text
from esd_splat.run.folder import REPORT
from esd_splat.show.report import report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, see ``command.run``."""
    return command.run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> None:
    parser = command.Parser(
        prog=command.prog("report"),
        description=f"Writes {REPORT} into the folder of each run: prompt, measures, pictures, "
        "curves and config in one file.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    folders = parser.parse_args(argv).runs
    # All are read before one is written: what is asked for happens whole, or not at all.
    pages = {folder / REPORT: report(folder) for folder in folders}
    for path, text in pages.items():
        write_text(path, text)
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
