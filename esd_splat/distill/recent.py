"""The latest views of a scene, for losses that pool them and for the LoRA that trains on them."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from esd_splat.distill.pool import Views


@dataclass(frozen=True)
class Recent:
    """Latents of the latest views, oldest first, with the cameras and the steps that made them."""

    latents: Views
    c2w: Float[Tensor, "_ 4 4"]
    """Camera-to-world matrices."""
    steps: Int[Tensor, " _"]
    """The number of steps that were done when each view was rendered."""

    @classmethod
    def of(cls, latents: Views, c2w: Float[Tensor, "_ 4 4"], step: int) -> "Recent":
        """Return the views of one step."""
        steps = torch.full((len(latents),), step, device=latents.device)
        return cls(latents.detach(), c2w, steps)

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, rows: slice | Tensor) -> "Recent":
        """Return the views selected by a slice or a tensor of indices."""
        return Recent(self.latents[rows], self.c2w[rows], self.steps[rows])

    def join(self, new: "Recent", most: int) -> "Recent":
        """Return the latest ``most`` of these views and of the ``new`` ones."""
        pairs = zip(vars(self).values(), vars(new).values(), strict=True)
        return Recent(*(torch.cat(pair) for pair in pairs))[-most:]

    def chosen(self, groups: Float[Tensor, " g"], together: int) -> "Recent":
        """Return groups of ``together`` consecutive views.

        These are the views of one step if each step adds that many, which is what a teacher that
        sees them jointly needs.

        Args:
            groups: a number in [0, 1) for each group, from the oldest to the latest.
            together: number of views in a group, at most as many as there are.
        """
        count = len(self) // together
        first = (groups * count).long().clamp(max=count - 1) * together
        rows = len(self) % together + first[:, None]
        return self[(rows + torch.arange(together, device=rows.device)).flatten()]

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint must hold."""
        return dict(vars(self))

    @classmethod
    def restored(cls, state: Any, device: torch.device) -> "Recent | None":
        """Return what ``state`` returned, on ``device``. Older checkpoints hold latents alone."""
        if state is None:
            return None
        if isinstance(state, Tensor):
            count = len(state)
            state = {
                "latents": state,
                "c2w": torch.eye(4).expand(count, 4, 4),
                "steps": torch.zeros(count, dtype=torch.long),
            }
        return cls(**{name: value.to(device) for name, value in state.items()})
