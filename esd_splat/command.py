"""What all commands share: their name in messages, their exit status and how they report errors."""

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
    """Return how the user started the command ``name``, for its usage and error messages."""
    by_script = Path(sys.argv[0]).stem == "esd-splat"
    return f"esd-splat {name}" if by_script else f"python -m esd_splat.{name}"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors ``run`` reports in one line, like all other errors."""

    @override
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def run(
    command: Callable[[], int | None],
    name: str = "esd_splat",
    *,
    interrupted: str = "interrupted",
) -> int:
    """Run ``command``, report errors in one line on stderr, and return the exit status.

    The status is the one that ``command`` returns, where ``None`` means 0 (success). It is 2 if
    the user made an error, 130 after Ctrl-C, and 141 if the reader of stdout has closed the pipe,
    as ``head`` does.

    Args:
        command: the function to run, which prints its results to stdout.
        name: the beginning of the line on stderr.
        interrupted: the rest of that line after Ctrl-C.
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
        # Otherwise Python flushes stdout again on exit, which would fail with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except OSError as error:
        # Path.exists() raises this error for a name that is too long. For other bad paths it
        # returns False.
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"{name}: {error.filename}: {error.strerror}", file=sys.stderr)
        return WRONG_REQUEST
    return status or DONE
