"""What latent diffusion models share: the VAE, a cache of texts, and the kinds of predictions."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from esd_splat.errors import PromptError, TeacherError, quoted
from esd_splat.teacher.base import Embeddings, Teacher
from esd_splat.teacher.float32 import Float32
from esd_splat.teacher.memory import Memory
from esd_splat.teacher.noise import AlphasCumprod, eps_from_flow, eps_from_v, velocity
from esd_splat.types import Images, Latents, Timesteps

PREDICTS = ("epsilon", "v_prediction", "flow")
"""What a network may predict: the noise, the velocity, or the flow ``noise - clean``."""


class Picture(NamedTuple):
    """What an IP-Adapter tells the network of a picture: rows, as wide as those of a text."""

    shown: Float[Tensor, "1 rows d"]
    withheld: Float[Tensor, "1 rows d"]
    """The same for no picture, which the unconditional half of guidance gets."""

    def join(self, texts: Float[Tensor, "b l d"]) -> Float[Tensor, "b both d"]:
        """Put the picture before the embeddings of texts, whose last row some families look for."""
        return torch.cat([self.shown.expand(len(texts), -1, -1), texts], dim=1)

    def withhold(self, joined: Float[Tensor, "b both d"]) -> Float[Tensor, "b both d"]:
        """Replace the picture in what ``join`` returned by no picture."""
        rows, texts = self.split(joined)
        return torch.cat([self.withheld.expand_as(rows), texts], dim=1)

    def split(self, joined: Float[Tensor, "b both d"]) -> tuple[Tensor, Tensor]:
        """Return the picture and the texts in what ``join`` returned."""
        count = self.shown.shape[1]
        return joined[:, :count], joined[:, count:]

    def to(self, device: torch.device) -> "Picture":
        """Return the picture on ``device``."""
        return Picture(self.shown.to(device), self.withheld.to(device))


class LatentTeacher(Teacher):
    """A teacher made of the networks of one model folder.

    A family defines how they are called, in ``encode_text`` and ``output``.
    """

    def __init__(
        self,
        parts: dict[str, Any],
        network: nn.Module,
        predicts: str,
        alphas_cumprod: AlphasCumprod,
        device: torch.device,
        dtype: torch.dtype,
        memory: Memory,
    ) -> None:
        if predicts not in PREDICTS:
            raise TeacherError(
                f"teacher.model: its network predicts {predicts!r}; "
                f"{', '.join(PREDICTS[:-1])} and {PREDICTS[-1]} are supported"
            )
        memory.place(parts, device)
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                _check_finite(name, part)
        self.device, self.dtype, self.predicts = device, dtype, predicts
        self.network = cast(Any, network).to(memory_format=torch.channels_last)  # fastest
        # Some schedules end with alpha = 0, by which clean latents and some losses are divided.
        self.alphas_cumprod = alphas_cumprod.float().clamp(min=2**-24).to(device)
        self._vae = parts["vae"]
        config = self._vae.config
        self._scale = config.scaling_factor
        self._shift = getattr(config, "shift_factor", None) or 0.0
        factor = 2 ** (len(config.block_out_channels) - 1)
        asked: Any = network.config
        self.image_size: int = int(asked["sample_size"]) * factor
        check_fit("its vae makes {} latent channels", config.latent_channels, asked["in_channels"])
        side = self.image_size // factor
        self.latent_shape = (config.latent_channels, side, side)
        picture: Picture | None = parts.get("picture")
        self.picture = None if picture is None else picture.to(device)
        self._cache: dict[str, Tensor] = {}
        self._float32: Float32 | None = None  # made when it is needed, as its hooks take time
        memory.prepare(network, self._vae)
        if self.picture is not None:
            network.register_forward_pre_hook(self._show, with_kwargs=True)

    @abstractmethod
    def encode_text(self, text: str) -> Embeddings:
        """Return one row with everything that the network is told about a text."""

    @override
    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Embeddings:
        for text in dict.fromkeys(texts):
            if text not in self._cache:
                self._cache[text] = self.encode_text(text).float().to(self.device)
        found = torch.cat([self._cache[text] for text in texts])
        return found if self.picture is None else self.picture.join(found)

    @override
    def without_picture(self, embeddings: Embeddings) -> Embeddings:
        return embeddings if self.picture is None else self.picture.withhold(embeddings)

    @override
    def encode(self, images: Images) -> Latents:
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = nn.functional.interpolate(
                images, size, mode="bilinear", antialias=True, align_corners=False
            )
        encoded = self._vae.encode((2 * images - 1).to(self._vae.dtype))
        # AutoencoderTiny returns no distribution but the latents themselves, in place of the mean.
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
        return self._eps_from(self.output(noisy, t, embeddings), noisy, t)

    @override
    @contextmanager
    def in_float32(self) -> Iterator[None]:
        if self._float32 is None:
            self._float32 = Float32(self.network)
        dtype, self.dtype = self.dtype, torch.float32
        try:
            with self._float32.on():
                yield
        finally:
            self.dtype = dtype

    @override
    def offset(self, noisy: Latents, t: Timesteps) -> Latents:
        return self._eps_from(torch.zeros_like(noisy), noisy, t)

    @override
    def slope(self, t: Timesteps) -> Float[Tensor, "b 1 1 1"]:
        one = super().slope(t)
        return self._eps_from(one, torch.zeros_like(one), t)

    def _show(self, network: nn.Module, inputs: Any, more: dict[str, Any]) -> Any:
        """Give a UNet the picture apart from the texts. It is a hook, so families need no care."""
        assert self.picture is not None
        noisy, t, joined = inputs
        rows, texts = self.picture.split(joined)
        told = {"image_embeds": [rows[:, None]]}  # of one adapter, one picture
        added = more.get("added_cond_kwargs", {}) | told
        return (noisy, t, texts), more | {"added_cond_kwargs": added}

    def _eps_from(self, output: Latents, noisy: Latents, t: Timesteps) -> Latents:
        if self.predicts == "epsilon":
            return output
        convert = eps_from_flow if self.predicts == "flow" else eps_from_v
        return convert(output, noisy, self.alphas_cumprod, t)


def token_ids(tokenizer: Any, text: str, device: torch.device, most: int | None = None) -> Tensor:
    """Return the token ids of ``text``, padded to ``[1, most]``.

    The default of ``most`` is the tokenizer's own maximum length.

    Raises:
        PromptError: ``text`` is longer. Its end, where the view words are, would be lost silently.
    """
    takes: int = tokenizer.model_max_length if most is None else most
    if len(ids := tokenizer(text, verbose=False).input_ids) > takes:
        cut = tokenizer.decode(ids[takes - 1 : -1]).strip()
        raise PromptError(
            f"prompt: {quoted(text)} has {len(ids)} tokens and this teacher takes {takes}: "
            f"{quoted(cut)} would be cut off; shorten the prompt (Stable Diffusion 3 with its T5 "
            "encoder takes 256)"
        )
    return clipped_ids(tokenizer, text, device, takes)


def clipped_ids(tokenizer: Any, text: str, device: torch.device, most: int) -> Tensor:
    """Return the token ids of ``text``, padded or cut off to ``[1, most]``."""
    padded = tokenizer(
        text, padding="max_length", max_length=most, truncation=True, return_tensors="pt"
    )
    return padded.input_ids.to(device)


def check_fit(what: str, found: int, asked: int) -> None:
    """Check that a network takes inputs of the size that another part makes.

    Args:
        what: the subject of the error message, with a placeholder for ``found``.
        found: the size that the other part makes.
        asked: the size that the network takes.

    Raises:
        TeacherError: the sizes differ.
    """
    if found != asked:
        raise TeacherError(
            f"teacher.model: {what.format(found)}, but its network takes {asked}; they are "
            "parts of different models"
        )


def _check_finite(name: str, part: nn.Module) -> None:
    for key, weight in part.named_parameters():
        if not weight.isfinite().all():
            raise TeacherError(
                f"teacher.model: in {weight.dtype} the weight {key} of its {name} is not finite: "
                "the file is damaged, or the numbers are too large for this precision"
            )
