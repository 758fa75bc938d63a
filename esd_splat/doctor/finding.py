"""What a check returns, and the helpers that checks share."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """What is known about one thing."""

    found: str
    way_out: str = ""
    """How to get what is missing; empty if nothing is."""
    stops: bool = False
    """Whether no run can start before that is done."""


def reason(error: object) -> str:
    """The first line of an error's message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def short(path: Path | str) -> str:
    """``path`` with ``~`` for the home folder: a bug report need not tell the user's name."""
    home = os.path.expanduser("~")
    inside = home != "/" and f"{path}/".startswith(f"{home}/")
    return f"~{str(path)[len(home) :]}" if inside else str(path)


def output(*words: str) -> str:
    """What the program ``words`` prints.

    Raises:
        OSError: it cannot be started.
        subprocess.SubprocessError: it fails, or takes longer than a minute.
    """
    done = subprocess.run(
        words, check=True, timeout=60, capture_output=True, encoding="utf-8", errors="replace"
    )
    return done.stdout.strip()
