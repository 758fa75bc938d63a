"""Errors a user can cause. Anything else that escapes is a bug and keeps its traceback."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


class EsdSplatError(Exception):
    """Base class of the errors that the command line prints as one block, without a traceback.

    The message is one line that says what is wrong and the way out; only ``ConfigError`` has more.
    """


class UsageError(EsdSplatError):
    """A command line has a flag that is unknown, or a value that cannot be used."""


class PromptError(EsdSplatError):
    """A prompt uses words that the chosen teacher has never seen, or more than it takes."""


class SceneError(EsdSplatError):
    """A scene or its file cannot be used: missing, cut short, no splat, values of no meaning."""


class OutputError(EsdSplatError):
    """A file or folder cannot be written, or what is there already must not be overwritten."""


class BusyError(OutputError):
    """Another run is writing to the folder."""


class TeacherError(EsdSplatError):
    """A teacher's weights are missing, cut short, of another kind, or out of reach."""


class BackendError(EsdSplatError):
    """A device or rasterizer was asked for that this machine or installation does not have."""


class CheckpointError(EsdSplatError):
    """A checkpoint is corrupt, foreign, or of a version that this program cannot read."""


class NewerCheckpointError(CheckpointError):
    """A checkpoint was written by a newer program: worth keeping, and nothing to start over."""


class ViewError(EsdSplatError):
    """The live view cannot be shown: viser is not installed, or its port cannot be had."""


class RunError(EsdSplatError):
    """A run cannot go on: it turned NaN, or its Gaussians all vanished. Says at which step."""


def refuse(problems: Collection[str]) -> None:
    """Raise a ``ValueError`` with a line for each of ``problems``, if there are any.

    For ``__post_init__`` of a section of the config, about what concerns several of its fields.
    Each line begins with the field; the loader puts the section before it.
    """
    # Not a Sequence: of one the tests' type checker looks at an element that it draws at random.
    if problems:
        raise ValueError("\n".join(problems))


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration."""

    key: str
    """Dotted path, as the user would type it on the command line."""
    message: str
    """What is wrong and, where it is known, what would be right."""


class ConfigError(EsdSplatError):
    """A configuration cannot be used; says everything that is wrong with it, in one go.

    Raised before any model is loaded or file written. The command line prints it without a
    traceback and exits with status 2::

        $ python -m esd_splat.fit --config configs/esd.yaml loss.entropy_wieght=0.3 steps=0
        esd_splat: configs/esd.yaml: 2 problems
          loss.entropy_wieght: unknown key; did you mean 'loss.entropy_weight'?
          steps: must be at least 1, got 0

    Each key is spelled as it would be typed as an override, so the fix can be pasted back.
    """

    def __init__(self, source: str, problems: Sequence[Problem]):
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = [f"  {p.key}: {p.message}" for p in problems]
        super().__init__("\n".join([f"{source}: {count}", *lines]))
