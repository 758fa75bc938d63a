"""What our command lines have in common: how they end, and the one line they end with."""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from typing_extensions import override

from esd_splat.errors import EsdSplatError, UsageError

DONE, WRONG_REQUEST, INTERRUPTED, UNREAD = 0, 2, 130, 141


class Parser(argparse.ArgumentParser):
    """Says what it cannot read as every other error is said: in one line, by ``run``."""

    @override
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def run(
    command: Callable[[], None], name: str = "esd_splat", *, interrupted: str = "interrupted"
) -> int:
    """Carry out ``command`` and return the exit status.

    That is 0 for done, 2 for a wrong request, 130 for interrupted, and 141 where the reader of
    stdout has left, as that of ``--help | head`` may.

    Args:
        command: prints what it has to say to stdout.
        name: what the line on stderr begins with.
        interrupted: what it says after Ctrl-C.
    """
    try:
        command()
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
    return DONE
