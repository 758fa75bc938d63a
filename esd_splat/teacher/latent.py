"""What latent diffusion models share: the VAE, a memory for texts, one kind of prediction."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from esd_splat.errors import TeacherError
from esd_splat.noise import AlphasCumprod, eps_from_flow, eps_from_v, velocity
from esd_splat.teacher.base import Embeddings, Teacher
from esd_splat.types import Images, Latents, Timesteps

PREDICTS = ("epsilon", "v_prediction", "flow")
"""What a network may predict: the noise, the velocity, or noise less clean latents."""


class LatentTeacher(Teacher):
    """The networks of one folder. A family says how to ask them: ``encode_text``, ``output``."""

    def __init__(
        self,
        parts: dict[str, Any],
        network: nn.Module,
        predicts: str,
        alphas_cumprod: AlphasCumprod,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        if predicts not in PREDICTS:
            raise TeacherError(
                f"teacher.model: its network predicts {predicts!r}; "
                f"{', '.join(PREDICTS[:-1])} and {PREDICTS[-1]} are understood"
            )
        for part in parts.values():
            if isinstance(part, nn.Module):
                part.to(device).eval().requires_grad_(False)
        self.device, self.dtype, self.predicts = device, dtype, predicts
        self.network = cast(Any, network).to(memory_format=torch.channels_last)  # fastest so
        self.alphas_cumprod = alphas_cumprod.float().to(device)
        self._vae = parts["vae"]
        config = self._vae.config
        self._scale = config.scaling_factor
        self._shift = getattr(config, "shift_factor", None) or 0.0
        factor = 2 ** (len(config.block_out_channels) - 1)
        self.image_size: int = int(network.config["sample_size"]) * factor  # pyright: ignore
        if (found := config.latent_channels) != (asked := network.config["in_channels"]):  # pyright: ignore
            raise TeacherError(
                f"teacher.model: its vae makes {found} latent channels, its network takes {asked}; "
                "they are parts of different models"
            )
        self._cache: dict[str, Tensor] = {}

    @abstractmethod
    def encode_text(self, text: str) -> Embeddings:
        """One row: all that the network is told of a text."""

    @override
    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Embeddings:
        for text in dict.fromkeys(texts):
            if text not in self._cache:
                self._cache[text] = self.encode_text(text).float()
        return torch.cat([self._cache[text] for text in texts])

    @override
    def encode(self, images: Images) -> Latents:
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = nn.functional.interpolate(
                images, size, mode="bilinear", antialias=True, align_corners=False
            )
        encoded = self._vae.encode((2 * images - 1).to(self._vae.dtype))
        # AutoencoderTiny has no distribution, only what would be its mean.
        mean = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean
        return (mean.float() - self._shift) * self._scale

    @override
    @torch.no_grad()
    def decode(self, latents: Latents) -> Images:
        images = self._vae.decode((latents / self._scale + self._shift).to(self._vae.dtype)).sample
        return (images.float() / 2 + 0.5).clamp(0, 1)

    @override
    def target(self, clean: Latents, noise: Latents, t: Timesteps) -> Latents:
        if self.predicts == "epsilon":
            return noise
        if self.predicts == "flow":
            return noise - clean
        return velocity(clean, noise, self.alphas_cumprod, t)

    @override
    def eps(self, noisy: Latents, t: Timesteps, embeddings: Embeddings) -> Latents:
        output = self.output(noisy, t, embeddings)
        if self.predicts == "epsilon":
            return output
        convert = eps_from_flow if self.predicts == "flow" else eps_from_v
        return convert(output, noisy, self.alphas_cumprod, t)


def token_ids(tokenizer: Any, text: str, device: torch.device) -> Tensor:
    """``[1, tokens]``: as long as the tokenizer's model takes, what is longer cut off."""
    ids = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids.to(device)
