"""SDS, VSD and ESD on Gaussians whose scores are known exactly, from the command line.

The fitted Gaussian stands for the 3D scene, its samples for renders, the origin of each sample for
the camera, and the target for the teacher. SDS and VSD move every sample towards the mode of the
target, so the fit collapses. ESD with lambda 1 fits the whole distribution. With ``--paper``, the
run repeats the paper's own script. All flags of that script are accepted.
"""

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

import torch

from esd_splat import command
from esd_splat.errors import BackendError, UsageError
from esd_splat.settings.schema import json_schema
from esd_splat.toy.fit import fit
from esd_splat.toy.results import check_folder, contents, describe, write
from esd_splat.toy.settings import Settings

EXAMPLES = """\
examples:
  %(prog)s --method esd --lambda_coeff 1.0
  %(prog)s --compare"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status. See ``command.run``."""
    nothing = "interrupted; nothing was written"
    return command.run(lambda: _main(argv), interrupted=nothing)


def _main(argv: Sequence[str] | None) -> None:
    settings = parse(argv)
    check_device(settings)
    check_folder(settings.folder)
    methods = ("sds", "vsd", "esd") if settings.compare else (settings.method,)
    fits = []
    for method in methods:
        fits.append(fit(replace(settings, method=method)))
        print(describe(fits[-1]), flush=True)
    write(settings.folder, contents(settings, fits))
    print(f"wrote {settings.folder}")


def parse(argv: Sequence[str] | None) -> Settings:
    """Parse the flags.

    Raises:
        UsageError: names the first flag that cannot be parsed, or every value out of range.
    """
    arguments, unknown = _parser().parse_known_args(argv)
    flags = [f"--{f.name}" for f in fields(Settings)]
    for flag in unknown:
        near = get_close_matches(flag.partition("=")[0].replace("-", "_"), flags, n=1)
        raise UsageError(
            f"{flag}: unknown flag; " + (f"did you mean {near[0]}?" if near else "see --help")
        )
    if "method" not in arguments and "compare" not in arguments:
        raise UsageError("--method: sds, vsd or esd is required, or --compare for all three")
    try:
        return Settings(**vars(arguments))
    except ValueError as error:
        raise UsageError("; ".join(f"--{line}" for line in str(error).splitlines())) from error


def _parser() -> command.Parser:
    """Return a parser with a flag per field of ``Settings``. Flags not given have no value."""
    parser = command.Parser(
        prog=command.prog("toy"),
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    docs = json_schema(Settings)["properties"]
    for f in fields(Settings):
        flag, text = f"--{f.name}", " ".join(docs[f.name]["description"].replace("%", "%%").split())
        default = docs[f.name]["default"]
        text += "" if default is None or f.name == "method" else f" (default: {default})"
        if f.name == "save_video":  # in the paper's script, it cannot be switched off
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        elif f.type is bool:
            parser.add_argument(flag, action="store_true", help=text)
        else:
            kinds = (f.type, *get_args(f.type))
            kind = next((k for k in (int, float, Path) if k in kinds), str)
            parser.add_argument(flag, type=kind, metavar=kind.__name__.upper(), help=text)
    return parser


def check_device(settings: Settings) -> None:
    """Check before any work that the device is available.

    Raises:
        BackendError: the device is not available.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    usable = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if settings.torch_device in usable:
        return
    raise BackendError(f"--device {settings.device}: not available; choose {' or '.join(usable)}")
