"""Multi-view diffusion (like MVDream, arXiv:2308.16512): a network that sees all views together."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from esd_splat.errors import TeacherError
from esd_splat.teacher.base import Embeddings
from esd_splat.teacher.memory import Memory
from esd_splat.teacher.sd import PARTS, Sd
from esd_splat.types import Latents, Timesteps

__all__ = ["PARTS", "MultiView"]
CAMERA = 16
"""Number of entries of a camera-to-world matrix."""


class MultiView(Sd):
    """Stable Diffusion whose self-attention spans the pixels of all views of a step together.

    These networks were trained on several views of one object at a time, so they know what no
    prompt can say: that the object has one face. The camera is added to the time embedding through
    the UNet's own class embedding (``class_embed_type`` projection, with 16 inputs), so the weights
    are those of an ordinary UNet.
    """

    joint = True

    def __init__(
        self,
        parts: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        memory: Memory,
    ) -> None:
        found = parts["unet"].config
        takes = found.class_embed_type, found.projection_class_embeddings_input_dim
        if takes != ("projection", CAMERA):
            raise TeacherError(
                "teacher.model: a multi-view unet must have class_embed_type projection with "
                f"{CAMERA} inputs, for the camera; this one has {takes[0]} with {takes[1]}"
            )
        super().__init__(parts, device, dtype, memory)
        self._groups: list[int] = []
        processors = {
            name: _Together(self._groups) if ".attn1." in name else processor
            for name, processor in parts["unet"].attn_processors.items()
        }
        parts["unet"].set_attn_processor(processors)

    def camera(self, c2w: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b 16"]:
        """Return what the network is told of cameras: here, their matrices as they are."""
        return c2w.flatten(1)

    @override
    def told(self, texts: Embeddings, c2w: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b rows d"]:
        """Append a row with the camera and the number of views that are seen together."""
        together = torch.full((len(c2w), 1), float(len(c2w)), device=c2w.device)
        row = torch.cat([self.camera(c2w), together], dim=1)
        return torch.cat([texts, F.pad(row, (0, texts.shape[-1] - row.shape[-1]))[:, None]], dim=1)

    @override
    def output(self, noisy: Latents, t: Timesteps, embeddings: Embeddings) -> Latents:
        cameras, together = embeddings[:, -1, :CAMERA], embeddings[:, -1, CAMERA].int().tolist()
        self._groups.clear()
        while (start := sum(self._groups)) < len(noisy):
            self._groups.append(together[start])
        texts = embeddings[:, :-1].to(self.dtype)
        found = self.network(noisy.to(self.dtype), t, texts, class_labels=cameras.to(self.dtype))
        return found.sample.float()


class _Together:
    """A diffusers attention processor: self-attention over the pixels of each group of rows.

    The projections still act on the whole batch row by row, because the scene's LoRA is active in
    some rows only.
    """

    def __init__(self, groups: list[int]) -> None:
        self.groups = groups

    def __call__(self, attn: Any, hidden_states: Tensor, *unused: Any, **none: Any) -> Tensor:
        projected = (project(hidden_states) for project in (attn.to_q, attn.to_k, attn.to_v))
        seen = []
        for parts in zip(*(x.split(self.groups) for x in projected), strict=True):
            q, k, v = (x.reshape(1, -1, attn.heads, x.shape[-1] // attn.heads) for x in parts)
            of_all = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)))
            seen.append(of_all.transpose(1, 2).reshape(parts[0].shape))
        output = torch.cat(seen)
        for layer in attn.to_out:
            output = layer(output)
        return output
