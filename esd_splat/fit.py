"""``python -m esd_splat.fit``: a prompt in, a folder with a splat out."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from esd_splat import __version__, command
from esd_splat.errors import UsageError

if TYPE_CHECKING:
    from esd_splat.config import Config

USAGE = """\
usage: python -m esd_splat.fit [--config FILE] prompt="a red owl" [key=value ...]

Makes the Gaussian splat that a prompt describes, and writes it to out=.

options:
  --config FILE   YAML file with what differs from the defaults; a path, or a shipped config:
                  {configs}; esd is the one to begin with, and
                  without any, each key has the default that stands below
  --print-config  print the resolved config as YAML and stop
  --quiet         print nothing but errors
  --version       print the version and stop
  --help          print this and stop

keys, as key=value on the command line or as YAML in the file; the command line wins:

{keys}"""


def fit(config: "Config", *, quiet: bool = False) -> dict[str, Any]:
    """Run ``config`` to its end and return what ``summary.json`` in its folder holds.

    Args:
        config: as from ``load_config``.
        quiet: print nothing but errors.

    Raises:
        EsdSplatError: the run cannot start or go on; one line says why, and the way out.
        KeyboardInterrupt: after the run has saved what it needs to be resumed.
    """
    from esd_splat.run import trainer  # with torch, Lightning and diffusers: seconds

    return trainer.run(config, quiet=quiet)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, see ``command.run``."""
    goes_on = "interrupted; the same command with resume=true, not overwrite, goes on"
    return command.run(lambda: _main(argv), interrupted=goes_on)


def _main(argv: Sequence[str] | None) -> None:
    # With torch, seconds: in here, Ctrl-C is one line in them too.
    from esd_splat.config import Config, load_config, shipped_configs
    from esd_splat.structured import help_text, to_yaml

    # Whatever is no option counts as an override, and is checked as one.
    arguments, overrides = _parser().parse_known_args(argv)
    if arguments.help:
        configs = ", ".join(sorted(shipped_configs()))
        print(USAGE.format(configs=configs, keys=help_text(Config)))
        return
    if arguments.version:
        print(__version__)
        return
    files = arguments.config
    if len(files) > 1:
        raise UsageError(f"--config: is given {len(files)} times ({', '.join(files)}); give one")
    config = load_config(files[0] if files else None, overrides)
    if arguments.print_config:
        print(to_yaml(config), end="")
        return
    fit(config, quiet=arguments.quiet)


def _parser() -> command.Parser:
    parser = command.Parser(prog="python -m esd_splat.fit", add_help=False, allow_abbrev=False)
    parser.add_argument("--config", "-c", action="append", default=[])
    for flag in ("--print-config", "--quiet", "--version"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
