"""The interface of densification strategies, which change the number of Gaussians of a scene.

A row is one Gaussian. Rows are edited in place, in tensors whose memory has room for more of them,
so rows that do not change are not copied. Only when a tensor is full does it move to larger memory,
one tensor at a time.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.errors import refuse
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize.base import Render
from esd_splat.settings.schema import Field, section

State = dict[str, Tensor]
"""What a strategy remembers between steps: tensors with one row per Gaussian, by name."""

Importance = Callable[[], Float[Tensor, " n"]]
"""Returns how much light each Gaussian sends to the pixels of some random views. The computation
needs renders, so it is called only if a strategy has to choose which Gaussians to drop."""


@dataclass(frozen=True)
class Rows:
    """All tensors with one row per Gaussian, with room for additional rows."""

    scene: Gaussians
    """The scene, with as many rows as there is room for."""
    moments: list[Tensor]
    """The optimizer's moments, each with as many rows as the scene."""

    @property
    def buffers(self) -> list[Tensor]:
        """The fields of the scene, followed by the moments."""
        return [*vars(self.scene).values(), *self.moments]


def logit(share: float) -> float:
    """Return the logit of ``share`` in [0, 1], which is infinite at both ends."""
    return math.inf if share == 1 else -math.inf if share == 0 else math.log(share / (1 - share))


class Edit(ABC):
    """A change of the rows of a scene, decided but not yet carried out."""

    count: int
    """Number of rows after the edit."""

    @abstractmethod
    def carry_out(self, rows: Rows) -> None:
        """Write the new rows in place. The contents of rows from ``count`` on are then undefined.

        Args:
            rows: the rows before the edit, with room for at least ``count``.
        """


class Densifier:
    """Decides when and how the number of Gaussians changes. This base class never changes it.

    A subclass is a frozen dataclass. Its fields are its configuration, and its state is passed in.
    In every step the trainer calls ``observe``, then the optimizer's step, then ``nudge``, then
    ``edit``. After an edit the old state is invalid, and ``start`` returns a new one.
    """

    def start(self, count: int, device: torch.device | str = "cpu") -> State:
        """Return the initial state for a scene with ``count`` rows, before any ``observe``."""
        return {}

    def observe(self, state: State, render: Render, grad2d: Float[Tensor, "b n 2"]) -> None:
        """Record one step in ``state``, in place and without waiting for the device.

        Args:
            render: all views of the step.
            grad2d: gradient of the total loss of the step with respect to ``render.means2d``.
        """

    def nudge(self, scene: Gaussians, lr: float, step: int, steps: int, seed: int) -> None:
        """Change the values of the scene in place, after the optimizer's step.

        Args:
            scene: detached tensors, which may be written to.
            lr: learning rate of the means in this step, in world units.
            step: see ``edit``, also for ``steps`` and ``seed``.
        """

    def edit(
        self,
        scene: Gaussians,
        state: State,
        importance: Importance,
        step: int,
        steps: int,
        seed: int,
    ) -> Edit | None:
        """Return the edit to carry out, or ``None`` if the scene and ``state`` stay as they are.

        This is a pure function: the same arguments give the same bits in every run.

        Args:
            importance: returns the importance of each row of ``scene``.
            step: number of optimizer steps done so far, 1 after the first.
            steps: number of steps of the whole run.
            seed: seed of the run, for strategies that draw random numbers.

        Raises:
            RunError: no Gaussian would be left.
        """
        return None


Fraction = Annotated[float, Field(ge=0, le=1)]


@section
class Periodic(Densifier):
    """A strategy that edits the scene at regular intervals during a part of the run."""

    every: int = Field(default=50, ge=1)
    """Number of optimizer steps between edits."""
    window: tuple[Fraction, Fraction] = (0.1, 0.6)
    """Part of the run in which the scene is edited, as two increasing fractions of its steps."""

    def __post_init__(self) -> None:
        problems = []
        if self.window[0] > self.window[1]:
            problems = [f"window: low must not exceed high, got {list(self.window)}"]
        refuse([*problems, *self.problems()])

    def problems(self) -> list[str]:
        """Return the problems of a subclass that concern several fields, as ``refuse`` expects."""
        return []

    def is_due(self, step: int, steps: int) -> bool:
        """Return whether the scene is edited after ``step`` of ``steps`` optimizer steps."""
        first, last = self.window
        return step % self.every == 0 and first * steps <= step <= last * steps
