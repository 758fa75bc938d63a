"""What a densification strategy decides, and what it decides about.

Rows are edited in place: tensors keep room for more rows than they show, so nothing is copied that
does not change. Only when they are full do they move, one tensor at a time.
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
"""What a strategy remembers between steps: plain tensors, one row per Gaussian."""

Importance = Callable[[], Float[Tensor, " n"]]
"""How much light each Gaussian sends to pixels of some views; only computed when asked."""


@dataclass(frozen=True)
class Rows:
    """Everything with a row per Gaussian, in buffers with room for more than there are."""

    scene: Gaussians
    """Of as many rows as there is room for."""
    moments: list[Tensor]
    """The optimizer's running means, each as tall as the scene."""

    @property
    def buffers(self) -> list[Tensor]:
        """All of them."""
        return [*vars(self.scene).values(), *self.moments]


def logit(share: float) -> float:
    """Of a share in [0, 1], also of its ends."""
    return math.inf if share == 1 else -math.inf if share == 0 else math.log(share / (1 - share))


class Edit(ABC):
    """What becomes of the rows."""

    count: int
    """Rows there will be."""

    @abstractmethod
    def carry_out(self, rows: Rows) -> None:
        """Write the new rows in place; those from ``count`` on become meaningless.

        Args:
            rows: with room for ``count``.
        """


class Densifier:
    """When and how the scene's number of Gaussians changes; as it stands here, never.

    A subclass is a frozen dataclass: its fields are its configuration, and its state is passed in.
    Once per step: ``observe``, then the optimizer's step, then ``nudge``, then ``edit``; after an
    edit the old state is meaningless, and ``start`` gives the new one.
    """

    def start(self, count: int, device: torch.device | str = "cpu") -> State:
        """The state of a scene of ``count`` rows of which nothing has been seen."""
        return {}

    def observe(self, state: State, render: Render, grad2d: Float[Tensor, "b n 2"]) -> None:
        """Note one step in ``state``, in place; never waits for the device.

        Args:
            render: all views of the step.
            grad2d: gradient of the step's whole loss with respect to ``render.means2d``.
        """

    def nudge(self, scene: Gaussians, lr: float, step: int, steps: int, seed: int) -> None:
        """Change the scene in place, after the optimizer did.

        Args:
            scene: tensors that may be written to.
            lr: learning rate of the means in this step, world units.
            step: as in ``edit``, like ``steps`` and ``seed``.
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
        """What becomes of the scene, or ``None`` where it stays and ``state`` goes on.

        A pure function: the same arguments give the same bits, on every run.

        Args:
            importance: of the rows of ``scene``.
            step: optimizer steps done so far, so 1 after the first.
            steps: how many the run will have.
            seed: the run's, for strategies that draw.

        Raises:
            RunError: nothing would be left.
        """
        return None


Fraction = Annotated[float, Field(ge=0, le=1)]


@section
class Periodic(Densifier):
    """Edits every so many steps, in a part of the run."""

    every: int = Field(default=50, ge=1)
    """Number of optimizer steps between edits."""
    window: tuple[Fraction, Fraction] = (0.1, 0.6)
    """Part of the run in which the scene is edited: two rising fractions of its steps."""

    def __post_init__(self) -> None:
        problems = []
        if self.window[0] > self.window[1]:
            problems = [f"window: low must not exceed high, got {list(self.window)}"]
        refuse([*problems, *self.problems()])

    def problems(self) -> list[str]:
        """What is wrong between fields of a subclass, one line each as ``refuse`` takes them."""
        return []

    def is_due(self, step: int, steps: int) -> bool:
        """Whether the scene is edited after ``step`` of ``steps``."""
        first, last = self.window
        return step % self.every == 0 and first * steps <= step <= last * steps
