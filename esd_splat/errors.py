"""Errors that a user can cause. Other exceptions that escape are bugs and keep their traceback."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MOST_CHARACTERS = 200
"""The most characters that a message shows of a text from a file."""
MOST_PROBLEMS = 100
"""The most problems of a configuration that a message lists."""


class EsdSplatError(Exception):
    """Base class of the errors that the command line prints without a traceback.

    The message is one line that says what is wrong and how to fix it. Only ``ConfigError`` has
    several lines. Characters that a terminal might obey, such as escapes, are spelled out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_printable(message))


class UsageError(EsdSplatError):
    """A command line has an unknown flag or an invalid value."""


class PromptError(EsdSplatError):
    """A prompt has words that the teacher does not know, or more tokens than it takes."""


class SceneError(EsdSplatError):
    """A scene cannot be used: its file is missing, truncated or no splat, or has invalid values."""


class OutputError(EsdSplatError):
    """A file or folder cannot be written, or exists already and must not be overwritten."""


class BusyError(OutputError):
    """Another run is writing to the same folder."""


class TeacherError(EsdSplatError):
    """The weights of a teacher are missing, truncated, of another kind, or cannot be downloaded."""


class JudgeError(EsdSplatError):
    """A judge of scenes does not exist, or its weights are missing, damaged or out of reach."""


class BackendError(EsdSplatError):
    """The requested device or rasterizer is not available on this machine or installation."""


class CheckpointError(EsdSplatError):
    """A checkpoint is corrupt, from another program, or of a version that cannot be read."""


class NewerCheckpointError(CheckpointError):
    """A newer version of this program wrote the checkpoint. It is kept, and no run replaces it."""


class ViewError(EsdSplatError):
    """The live view cannot be shown: viser is not installed, or its port is not available."""


class RunError(EsdSplatError):
    """A run cannot go on because values became NaN or all Gaussians vanished. Names the step."""


def one_line(text: object, limit: int = MOST_CHARACTERS) -> str:
    r"""Return ``text``, which may come from a file, as one printable line for a message or page.

    Example:
        >>> one_line("an owl\n\x1b[31m"), one_line("a red owl", limit=8)
        ('an owl \\x1b[31m', 'a red...')
    """
    start = str(text)[: 4 * limit]  # so that a text of any length takes no time
    line = _printable(" ".join(start.split()))
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def quoted(text: object, limit: int = 120) -> str:
    """Return ``one_line`` of a name or value in quotes."""
    start = str(text)[: 4 * limit]
    line = " ".join(start.split())
    return one_line(repr(line if len(line) <= limit else f"{line[: limit - 3]}..."), 4 * limit)


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's class if it has none."""
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror)
    line = str(error).strip().split("\n")[0]
    kind = type(error).__name__
    # The message of a KeyError is the key alone.
    line = f"{kind}: {line}" if isinstance(error, KeyError) else line
    return one_line(line.rstrip(". ")) or kind


@contextmanager
def reading(
    path: Path | str, error: type[EsdSplatError], damaged: str, way_out: str = ""
) -> Iterator[None]:
    """Turn whatever a parser raises within the block into one line.

    Every reader of a user's file parses it in such a block, as parsers raise anything at all for a
    file that is damaged or made to break them. Errors of this package pass through.

    Args:
        path: the file, which begins the message.
        error: the kind of error that the reader raises.
        damaged: what the file then is, such as "not a .ply file".
        way_out: the end of the message, such as "; export it again".
    """
    try:
        yield
    except (EsdSplatError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    # Libraries in Rust raise a PanicException, which is no Exception.
    except BaseException as cause:
        if isinstance(cause, OSError) and cause.errno is not None:
            raise error(f"{path}: cannot be read ({reason(cause)})") from cause
        raise error(f"{path}: {damaged} ({reason(cause)}){way_out}") from cause


def refuse(problems: Collection[str]) -> None:
    """Raise a ``ValueError`` with one line for each of ``problems``, if there are any.

    It is meant for checks in the ``__post_init__`` of a config section that concern several fields.
    Each line begins with the name of a field, and the loader adds the section in front of it.
    """
    # Not a Sequence: the tests' runtime type checker would draw from the global random generator
    # to choose which of its elements to check.
    if problems:
        raise ValueError("\n".join(problems))


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration."""

    key: str
    """Dotted path, as the user would type it on the command line."""
    message: str
    """What is wrong and, if it is known, what would be valid."""


class ConfigError(EsdSplatError):
    """A configuration cannot be used. The message lists all of its problems.

    It is raised before any model is loaded or any file is written. The command line prints it
    without a traceback and exits with status 2::

        $ python -m esd_splat.fit --config configs/esd.yaml loss.entropy_wieght=0.3 steps=0
        esd_splat: configs/esd.yaml: 2 problems
          loss.entropy_wieght: unknown key; did you mean 'loss.entropy_weight'?
          steps: must be at least 1, got 0

    Keys are spelled as on the command line, so that a fix can be pasted there.
    """

    def __init__(self, source: str, problems: Sequence[Problem]):
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        shown = problems[:MOST_PROBLEMS]
        lines = [f"{source}: {count}", *(f"  {one_line(p.key)}: {p.message}" for p in shown)]
        if len(problems) > len(shown):
            lines.append(f"  and {len(problems) - len(shown)} more")
        Exception.__init__(self, "\n".join(map(_printable, lines)))


def _printable(text: str) -> str:
    """Spell out every character that is no visible one, as Python's ``repr`` does."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
