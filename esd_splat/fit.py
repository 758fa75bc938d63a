"""``python -m esd_splat.fit``: a prompt in, a folder with a splat out."""

import json
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from esd_splat import __version__, command, config_files
from esd_splat.errors import ConfigError, UsageError
from esd_splat.plugins import any_installed
from esd_splat.settings import Reader, help_text, load, to_yaml

if TYPE_CHECKING:
    from esd_splat.config import Config
    from esd_splat.run.observer import Observer

USAGE = """\
usage: {prog} [--config FILE] prompt="a red owl" [key=value ...]

Makes the Gaussian splat that a prompt describes, and writes it to out=.

options:
  --config FILE   YAML file with the settings that differ from the defaults: a path, or the name of
                  a shipped config ({configs}).
                  Without this option it is esd.
  --print-config  print the resolved config as YAML and stop
  --print-schema  print the JSON schema of all settings, for editors, and stop
  --quiet         print nothing but errors
  --version       print the version and stop
  --help          print this and stop

keys, as key=value on the command line or as YAML in the file; the command line wins:

{keys}"""


def fit(config: "Config", *, quiet: bool = False, until: int | None = None) -> dict[str, Any]:
    """Run ``config`` to its end and return what ``summary.json`` in its folder holds.

    Args:
        config: as from ``load_config``.
        quiet: print nothing but errors.
        until: stop after this many steps, with a checkpoint and a scene; ``resume=true`` goes on.
            The summary is then empty.

    Raises:
        EsdSplatError: the run cannot start or go on; one line says why, and the way out.
        KeyboardInterrupt: after Ctrl-C or SIGTERM. The run has saved what it needs to be resumed.
    """
    from esd_splat.run import trainer  # with torch, Lightning and diffusers: seconds

    return trainer.run(config, _observers(config), quiet=quiet, until=until)


def _observers(config: "Config") -> "list[Observer]":
    """Everything that accompanies a run, as far as ``config`` asks for it."""
    from esd_splat.show.live import View
    from esd_splat.show.observers import Pictures, Report

    observers: list[Observer] = [Pictures(config)]
    if config.view:
        observers.append(View(config))
    if config.export.report:
        observers.append(Report(config.folder))
    return observers


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, see ``command.run``."""
    goes_on = "interrupted; the same command with resume=true, not overwrite, goes on"
    return command.run(lambda: _main(argv), interrupted=goes_on)


def _main(argv: Sequence[str] | None) -> int | None:
    # Whatever is no option counts as an override, and is checked as one.
    arguments, overrides = _parser().parse_known_args(argv)
    if arguments.help:
        configs = ", ".join(sorted(config_files.shipped_configs()))
        keys = help_text(_schema())
        print(USAGE.format(prog=command.prog("fit"), configs=configs, keys=keys))
        return None
    if arguments.version:
        print(__version__)
        return None
    named = arguments.config
    path = named[0] if named else None
    if len(named) > 1:
        raise UsageError(f"--config: is given {len(named)} times ({', '.join(named)}); give one")
    if arguments.print_schema:
        print(json.dumps(_schema(fresh=True), indent=1, ensure_ascii=False))
        return None
    source = config_files.source_name(path)
    text, problems = config_files.read_config(path or config_files.DEFAULT)
    reader = Reader(_schema(), text, overrides, problems)
    if reader.unknown:
        raise ConfigError(source, reader.problems)
    # With torch, seconds: not before it is clear that every key is one, and in here, where Ctrl-C
    # in them is one line too.
    from esd_splat.config import Config, unused

    config = load(Config, text, overrides, source, problems)
    if mistakes := unused(config, overrides):
        raise ConfigError(source, mistakes)
    if arguments.print_config:
        print(to_yaml(config), end="")
        return None
    fit(config, quiet=arguments.quiet)
    return command.DONE  # the run's result is its folder, whoever reads what it printed


def _schema(*, fresh: bool = False) -> Mapping[str, Any]:
    """The JSON schema of every setting: from a file, unless other packages add plug-ins.

    Args:
        fresh: make it from the code in any case.
    """
    if not (fresh or any_installed()):
        return config_files.schema()
    from esd_splat.config import Config  # with torch: seconds
    from esd_splat.settings.schema import json_schema

    return json_schema(Config)


def _parser() -> command.Parser:
    parser = command.Parser(prog=command.prog("fit"), add_help=False, allow_abbrev=False)
    parser.add_argument("--config", "-c", action="append", default=[])
    for flag in ("--print-config", "--print-schema", "--quiet", "--version"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    return parser


class _CallableModule(ModuleType):
    """This module has the name of its function, so ``esd_splat.fit`` may mean either."""

    __wrapped__ = staticmethod(fit)
    """What ``inspect.signature`` shows."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return fit(*args, **kwargs)

    def __reduce__(self) -> Any:
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    sys.exit(main())
