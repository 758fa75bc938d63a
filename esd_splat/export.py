"""``python -m esd_splat.export IN OUT``: a scene file as any other, and what that loses."""

import sys
from collections.abc import Sequence
from pathlib import Path

from esd_splat import command
from esd_splat.formats import EXPORTERS
from esd_splat.formats.convert import Request, convert
from esd_splat.formats.load import DECODERS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, see ``command.run``."""
    return command.run(lambda: print(convert(Request(**vars(_parser().parse_args(argv))))))


def _parser() -> command.Parser:
    kinds = ", ".join(f".{key}" for key in sorted(EXPORTERS))
    parser = command.Parser(
        prog=command.prog("export"),
        description="Converts a scene file, and says what was lost. The names say the formats.",
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="IN", type=Path, help=", ".join(sorted(DECODERS)))
    parser.add_argument("target", metavar="OUT", type=Path, help=kinds)
    add = parser.add_argument
    add("--crop", type=float, metavar="RADIUS", help="leave out what is farther from the origin")
    add("--min-opacity", type=float, default=0.0, metavar="P", help="leave out what is fainter")
    add("--max-gaussians", type=int, metavar="N", help="keep those that pixels get most light from")
    add("--pad-sh", action="store_true", help="fill a .ply's colours up to degree 3 with zeros")
    add("--comment", metavar="TEXT", help="what OUT says of itself, or a page's title; else as IN")
    add("--overwrite", action="store_true", help="replace OUT if it exists")
    return parser


if __name__ == "__main__":
    sys.exit(main())
