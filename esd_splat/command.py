"""What all commands share: what they are called, how they end, and their one line for an error."""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from typing_extensions import override

from esd_splat.errors import EsdSplatError, UsageError

DONE, WRONG_REQUEST, INTERRUPTED, UNREAD = 0, 2, 130, 141


def prog(name: str) -> str:
    """The command ``name`` in the words that started it, for its usage and its errors."""
    by_script = Path(sys.argv[0]).stem == "esd-splat"
    return f"esd-splat {name}" if by_script else f"python -m esd_splat.{name}"


class Parser(argparse.ArgumentParser):
    """Says what it cannot read as every other error is said: in one line, by ``run``."""

    @override
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def run(
    command: Callable[[], int | None],
    name: str = "esd_splat",
    *,
    interrupted: str = "interrupted",
) -> int:
    """Carry out ``command`` and return the exit status.

    The status is the one that ``command`` returns, where ``None`` means 0, done. It is 2 for a
    wrong request, 130 after Ctrl-C, and 141 if the reader of stdout has left, as ``head`` does.

    Args:
        command: prints its results to stdout.
        name: what the line on stderr begins with.
        interrupted: what that line says after Ctrl-C.
    """
    try:
        status = command()
        sys.stdout.flush()
    except EsdSplatError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return WRONG_REQUEST
    except KeyboardInterrupt:
        print(f"{name}: {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python must not try to flush again on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except OSError as error:
        # A name that is too long is the one bad path for which Path.exists() raises.
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"{name}: {error.filename}: {error.strerror}", file=sys.stderr)
        return WRONG_REQUEST
    return status or DONE
