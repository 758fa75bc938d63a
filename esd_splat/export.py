"""``python -m esd_splat.export IN OUT``: convert a scene file and report what is lost."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from esd_splat import command
from esd_splat.formats import EXPORTERS
from esd_splat.formats.convert import Request, convert
from esd_splat.formats.load import DECODERS
from esd_splat.run.front import known_front

AUTO = "auto"
"""The angle of ``--turn`` that turns the front of a run's scene to azimuth 0."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status. See ``command.run``."""
    return command.run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    if arguments.turn == AUTO:
        arguments.turn = -known_front(arguments.source)
    print(convert(Request(**vars(arguments))))


def _parser() -> command.Parser:
    kinds = ", ".join(f".{key}" for key in sorted(EXPORTERS))
    parser = command.Parser(
        prog=command.prog("export"),
        description="Converts a scene file and reports what is lost. The names determine formats.",
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="IN", type=Path, help=", ".join(sorted(DECODERS)))
    parser.add_argument("target", metavar="OUT", type=Path, help=kinds)
    add = parser.add_argument
    add("--crop", type=float, metavar="RADIUS", help="remove Gaussians farther from the origin")
    add("--min-opacity", type=float, default=0.0, metavar="P", help="remove less opaque Gaussians")
    add("--max-gaussians", type=int, metavar="N", help="keep the N that add most light to pixels")
    add(
        "--turn",
        type=_angle,
        default=0.0,
        metavar=f"DEG|{AUTO}",
        help="turn the scene about the vertical axis, counterclockwise seen from above; "
        f"{AUTO} turns the front of a run's scene to azimuth 0",
    )
    add("--pad-sh", action="store_true", help="fill a .ply up to SH degree 3 with zeros")
    add("--comment", metavar="TEXT", help="comment or page title of OUT; default: that of IN")
    add("--overwrite", action="store_true", help="replace OUT if it exists")
    return parser


def _angle(text: str) -> float | str:
    try:
        return AUTO if text == AUTO else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be degrees or {AUTO}, got {text!r}") from error


if __name__ == "__main__":
    sys.exit(main())
