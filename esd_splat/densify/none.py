"""The scene keeps the Gaussians it began with."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from esd_splat.densify.base import Densifier, Edit, Importance, State
from esd_splat.gaussians import Gaussians
from esd_splat.rasterize.base import Render


@dataclass(frozen=True)
class NoDensify(Densifier):
    """No Gaussian is ever added or removed."""

    @override
    def start(self, count: int, device: torch.device | str = "cpu") -> State:
        return {}

    @override
    def observe(self, state: State, render: Render, grad2d: Float[Tensor, "b n 2"]) -> None:
        pass

    @override
    def nudge(self, scene: Gaussians, lr: float, step: int, steps: int, seed: int) -> None:
        pass

    @override
    def edit(
        self,
        scene: Gaussians,
        state: State,
        importance: Importance,
        step: int,
        steps: int,
        seed: int,
    ) -> Edit | None:
        return None
