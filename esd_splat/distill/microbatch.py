"""The results of a step, either for all its views or for one microbatch at a time."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.scene.rasterize.base import Render
from esd_splat.types import Images, Latents, Timesteps


@dataclass(frozen=True)
class Seen:
    """What the latest step looked at, for observers. It is not part of the state."""

    images: Images
    """The rendered views."""
    noisy: Latents
    """The latents of the views, noised to ``t``."""
    t: Timesteps
    predictions: dict[str, Latents]
    """What the loss asked for, by the names in ``PREDICTIONS``."""


class Pulled(NamedTuple):
    """The results for some views, whose gradient has been added to the scene's."""

    clean: Latents
    render: Render
    grad2d: Float[Tensor, "b n 2"]
    """Gradient of the whole step's loss with respect to ``render.means2d``."""
    seen: Seen
    logged: dict[str, Tensor]
    """The contribution of these views to the step's mean of each logged value."""


def join(parts: list[Pulled]) -> Pulled:
    """Join the results of a step's microbatches."""
    if len(parts) == 1:
        return parts[0]

    def together(pieces: list[Tensor]) -> Tensor:
        return torch.cat([piece.detach() for piece in pieces])

    renders, seen = [part.render for part in parts], [part.seen for part in parts]
    names = seen[0].predictions
    predictions = {name: together([one.predictions[name] for one in seen]) for name in names}
    return Pulled(
        together([part.clean for part in parts]),
        Render(  # without a surface, which a step does not render
            together([one.images for one in renders]),
            together([one.alphas for one in renders]),
            together([one.means2d for one in renders]),
            together([one.visible for one in renders]),
        ),
        together([part.grad2d for part in parts]),
        Seen(
            together([one.images for one in seen]),
            together([one.noisy for one in seen]),
            together([one.t for one in seen]),
            predictions,
        ),
        {name: torch.stack([p.logged[name] for p in parts]).sum() for name in parts[0].logged},
    )
