"""``python -m esd_splat.compare``: writes one page with several runs side by side."""

import sys
from collections.abc import Sequence
from pathlib import Path

from esd_splat import command
from esd_splat.errors import OutputError
from esd_splat.files import output_error, write_text
from esd_splat.show.compare import GENERATOR, compare


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, see ``command.run``."""
    return command.run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> None:
    parser = command.Parser(
        prog=command.prog("compare"),
        description="Writes one page that opens offline: the scenes of several runs, turned "
        "together, with their measures and the settings that differ.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--out", type=Path, default=Path("compare.html"), help="%(default)s")
    arguments = parser.parse_args(argv)
    _refuse_foreign(arguments.out)
    write_text(arguments.out, compare(arguments.runs))
    print(f"wrote {arguments.out} ({arguments.out.stat().st_size / 1e6:.1f} MB)")


def _refuse_foreign(path: Path) -> None:
    """An older page is replaced; whatever else has that name is kept."""
    try:
        if path.is_dir():
            raise OutputError(f"--out: {path} is a folder; give the name of a page in it")
        if (
            path.exists()
            and f'content="{GENERATOR}"' not in path.read_text(errors="replace")[:1000]
        ):
            raise OutputError(f"--out: {path} is there and no page of ours; choose another name")
    except OSError as error:
        raise output_error(path, error) from error


if __name__ == "__main__":
    sys.exit(main())
