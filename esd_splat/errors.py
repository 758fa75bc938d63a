"""Errors that a user can cause. Other exceptions that escape are bugs and keep their traceback."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


class EsdSplatError(Exception):
    """Base class of the errors that the command line prints without a traceback.

    The message is one line that says what is wrong and how to fix it. Only ``ConfigError`` has
    several lines.
    """


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
        lines = [f"  {p.key}: {p.message}" for p in problems]
        super().__init__("\n".join([f"{source}: {count}", *lines]))
