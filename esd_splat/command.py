"""What all commands share: their name in messages, their exit status and how they report errors."""

import argparse
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

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


def say(line: str, *, to_stderr: bool = False) -> None:
    """Print ``line`` at once, if it can be printed at all.

    It is for what a run tells while it works. A log on a full disk, a terminal or pipe that was
    closed, and an encoding without some character of the line must not end the run.
    """
    try:
        print(line, file=sys.stderr if to_stderr else sys.stdout, flush=True)
    except UnicodeEncodeError:
        say(line.encode("ascii", "backslashreplace").decode(), to_stderr=to_stderr)
    except (OSError, ValueError):  # ValueError: the stream is closed
        pass


def run(
    command: Callable[[], int | None],
    name: str = "esd_splat",
    *,
    interrupted: str = "interrupted",
) -> int:
    """Run ``command``, report errors in one line on stderr, and return the exit status.

    The status is the one that ``command`` returns, where ``None`` means 0 (success), provided that
    all it printed could be written. It is 2 if the user made an error or stdout is full, 130 after
    Ctrl-C and SIGTERM, and 141 if the reader of stdout has closed the pipe, as ``head`` does.

    Args:
        command: the function to run. It prints its results to stdout, unless it returns a number.
        name: the beginning of the line on stderr.
        interrupted: the rest of that line after Ctrl-C and SIGTERM.
    """
    _open_streams()
    try:
        with _terminated_as_interrupted():
            return _status(command, name, interrupted)
    finally:
        _empty_streams()


def _status(command: Callable[[], int | None], name: str, interrupted: str) -> int:
    try:
        status = command()
        if status is None:
            sys.stdout.flush()  # here, where a failure is still reported
    except EsdSplatError as error:
        say(f"{name}: {error}", to_stderr=True)
        return WRONG_REQUEST
    except KeyboardInterrupt:
        say(f"{name}: {interrupted}", to_stderr=True)
        return INTERRUPTED
    except BrokenPipeError:
        return UNREAD
    except OSError as error:
        # Path.exists() raises this error for a name that is too long. For other bad paths it
        # returns False.
        known = {errno.ENAMETOOLONG: error.filename, errno.ENOSPC: error.filename or "stdout"}
        if error.errno not in known:
            raise
        say(f"{name}: {known[error.errno]}: {error.strerror}", to_stderr=True)
        return WRONG_REQUEST
    return status or DONE


def _open_streams() -> None:
    """Replace the standard streams that were closed, and let the others print any character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # In this order, each gets the number of the one that it replaces. Otherwise the next
            # file that is opened would, and take in all that libraries print.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # it is full or closed
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")


def _empty_streams() -> None:
    """Discard what could not be written, as Python would try again on exit, and fail."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError):  # it is closed
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Make SIGTERM, which schedulers and containers send, end the command as Ctrl-C does.

    They may send it several times. After the first, the command is ending already.
    """

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, handle)
    except ValueError:  # not the main thread, so the caller handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
