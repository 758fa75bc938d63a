"""What a densification strategy decides. Carrying it out is ``optim.apply_edit``'s business."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from esd_splat.gaussians import Gaussians
from esd_splat.rasterize.base import Render

State = dict[str, Tensor]
"""What a strategy remembers between steps: plain tensors, one row per Gaussian."""


@dataclass(frozen=True)
class Edit:
    """A new scene, and where each of its rows came from."""

    gaussians: Gaussians
    parent: Int[Tensor, " m"]
    """Row of the old scene that each new row descends from."""
    fresh: Bool[Tensor, " m"]
    """Rows whose optimizer moments restart at zero."""


class Densifier(ABC):
    """When and how the scene's number of Gaussians changes.

    A subclass is a frozen dataclass: its fields are its configuration, and its state is passed in
    and returned. Once per step: ``observe``, then the optimizer's step, then ``edit``; after an
    edit the old state is meaningless, and ``start`` gives the new one.
    """

    @abstractmethod
    def start(self, count: int, device: torch.device | str = "cpu") -> State:
        """The state of a scene of ``count`` rows of which nothing has been seen."""

    @abstractmethod
    def observe(self, state: State, render: Render, grad2d: Float[Tensor, "b n 2"]) -> State:
        """The state after one step; never waits for the device, and leaves ``state`` as it was.

        Args:
            render: all views of the step.
            grad2d: gradient of the step's whole loss with respect to ``render.means2d``.
        """

    @abstractmethod
    def edit(self, scene: Gaussians, state: State, step: int, steps: int, seed: int) -> Edit | None:
        """What becomes of the scene, or ``None`` where it stays and ``state`` goes on.

        A pure function: the same arguments give the same bits, on every run.

        Args:
            scene: detached or not; the edit's tensors never require gradients.
            step: optimizer steps done so far, so 1 after the first.
            steps: how many the run will have.
            seed: the run's, for strategies that draw.

        Raises:
            RunError: nothing would be left.
        """


def select(gaussians: Gaussians, rows: Int[Tensor, " m"]) -> Gaussians:
    """The scene made of ``rows``, which may repeat."""
    return gaussians.map(lambda value: value[rows])


def concatenate(*scenes: Gaussians) -> Gaussians:
    """The rows of all ``scenes``, in order."""
    return Gaussians(
        **{name: torch.cat([vars(s)[name] for s in scenes]) for name in vars(scenes[0])}
    )
