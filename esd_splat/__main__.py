"""``esd-splat COMMAND ...``, or ``python -m esd_splat COMMAND ...``: the commands of this package.

A command is the ``main`` of the module of its name, which is imported only when it is asked for.
"""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from esd_splat import __version__, command
from esd_splat.errors import UsageError

COMMANDS = {
    "fit": "make the Gaussian splat that a prompt describes",
    "export": "convert a scene file to another format",
    "report": "write a page with the pictures, curves and settings of a run",
    "compare": "write a page with several runs side by side",
    "evaluate": "judge finished scenes: faces, consistency, floaters, and tables of several runs",
    "plan": "predict the GPU memory and the arithmetic of a run, without a GPU and without weights",
    "toy": "compare the methods on 2-D Gaussians whose scores are known exactly",
    "doctor": "show what this machine has and what it lacks, for yourself or a bug report",
}
"""What each command does; ``python -m esd_splat.<name>`` is the same command."""

USAGE = """\
usage: esd-splat COMMAND ...

Makes 3D Gaussian splats from text by entropic score distillation.

commands:
{commands}

options:
  --version  print the version and stop
  --help     print this and stop

esd-splat COMMAND --help explains a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` names and return its exit status, see ``command.run``."""
    return command.run(lambda: _main(sys.argv[1:] if argv is None else argv))


def _main(argv: Sequence[str]) -> int | None:
    name, *arguments = argv or ["--help"]
    if name in COMMANDS:
        return import_module(f"esd_splat.{name}").main(arguments)
    if name in ("--help", "-h"):
        width = max(map(len, COMMANDS))
        lines = (f"  {known:{width}}  {what}" for known, what in COMMANDS.items())
        print(USAGE.format(commands="\n".join(lines)))
    elif name == "--version":
        print(__version__)
    else:
        near = get_close_matches(name, COMMANDS, n=1)
        way_out = f"did you mean {near[0]}?" if near else f"choose from {', '.join(COMMANDS)}"
        raise UsageError(f"{name}: unknown command; {way_out}")
    return None


if __name__ == "__main__":
    sys.exit(main())
