"""Sections with every kind of field, for the tests of settings."""

from pathlib import Path
from typing import Annotated, Literal

import pytest

from esd_splat.errors import ConfigError
from esd_splat.settings import load
from esd_splat.settings.schema import Field, Plugin, section


@section
class Tail:
    """A section of a plug-in."""

    long: bool = False
    """Whether it is."""


@section
class Pull:
    """A plug-in."""

    weight: float = Field(default=1.0, ge=0, le=4, json_schema_extra={"x-complement": "scale"})
    """How hard."""
    shared: int = 1
    """Both have it."""
    tail: Tail = Tail()


@section
class Push:
    """Another."""

    shared: int = 2
    """Both have it."""


PLUGINS = {"pull": Pull, "push": Push}


@section
class Lens:
    """A section."""

    distance: tuple[float, float] = (3.0, 4.0)
    """From the origin."""
    size: int = Field(default=64, ge=8)
    """Pixels."""
    fov: float = 40.0
    """Degrees."""
    limit: float | None = Field(default=None, ge=0)
    """Or none."""

    def __post_init__(self) -> None:
        if self.distance[0] > self.distance[1]:
            raise ValueError("distance: low must not exceed high")
        if self.fov < 1 and self.size > 99:
            raise ValueError("a lens so long needs a smaller size")


@section
class Run:
    """A whole."""

    prompt: str
    """What to make."""
    steps: int = Field(default=600, ge=1)
    """How many."""
    out: str | None = None
    """Where to."""
    bits: Literal["32", "16-mixed"] = "32"
    """Precision."""
    quick: bool = False
    """Whether to hurry."""
    formats: tuple[str, ...] = ("ply",)
    """Kinds of file."""
    layers: list[int] = Field(default_factory=list)
    """Which ones."""
    folder: Path = Path("here")
    """A path."""
    force: Annotated[object, Plugin(PLUGINS, "pull")] = Pull()
    """Which force to use."""
    lens: Lens = Lens()


def problems(yaml: str, *overrides: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(Run, yaml, overrides)
    return [(p.key, p.message) for p in caught.value.problems]
