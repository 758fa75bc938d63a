"""Stable Diffusion XL: two text encoders, and a UNet that is also told sizes and crops."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override

from esd_splat.teacher import sd
from esd_splat.teacher.base import Embeddings
from esd_splat.teacher.latent import LatentTeacher, check_fit, token_ids
from esd_splat.teacher.memory import Memory
from esd_splat.types import Latents, Timesteps

PARTS = sd.PARTS | {
    "tokenizer_2": "transformers.CLIPTokenizer",
    "text_encoder_2": "transformers.CLIPTextModelWithProjection",
}


class Sdxl(LatentTeacher):
    """Stable Diffusion XL.

    Its embeddings are the penultimate hidden states of both encoders side by side, and a last row
    with the pooled embedding of the second encoder, padded with zeros. So one tensor holds all that
    the network is told about a text, and mixing texts mixes all of it.
    """

    def __init__(
        self,
        parts: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        memory: Memory,
    ) -> None:
        scheduler, unet = parts["scheduler"], parts["unet"]
        schedule, predicts = scheduler.alphas_cumprod, scheduler.config.prediction_type
        if dtype == torch.float16 and parts["vae"].config.force_upcast:
            parts["vae"].to(torch.float32)  # its activations overflow float16
        super().__init__(parts, unet, predicts, schedule, device, dtype, memory)
        self.time_embedding = unet.time_embedding
        self._encoders = [
            (parts["tokenizer"], parts["text_encoder"]),
            (parts["tokenizer_2"], parts["text_encoder_2"]),
        ]
        self._pooled: int = parts["text_encoder_2"].config.projection_dim
        width = sum(parts[name].config.hidden_size for name in ("text_encoder", "text_encoder_2"))
        check_fit(sd.TEXT_WIDTH, width, unet.config.cross_attention_dim)
        beside_sizes = 6 * unet.config.addition_time_embed_dim
        taken = unet.config.projection_class_embeddings_input_dim - beside_sizes
        check_fit("its second text encoder makes {} pooled values", self._pooled, taken)
        # In training, these mark an uncropped photograph of the network's own size: original height
        # and width, top and left of the crop, target height and width.
        size = float(self.image_size)
        self._sizes = torch.tensor([size, size, 0.0, 0.0, size, size], device=device)

    @override
    def encode_text(self, text: str) -> Embeddings:
        hidden, (_, second) = encode_by_both(self._encoders, text)
        embeddings = pack(hidden, second.text_embeds)
        # In training, the empty prompt was zeros instead of the encoders' output.
        return embeddings if text else torch.zeros_like(embeddings)

    @override
    def output(self, noisy: Latents, t: Timesteps, embeddings: Embeddings) -> Latents:
        hidden, pooled = unpack(embeddings.to(self.dtype), self._pooled)
        sizes = self._sizes.to(self.dtype).expand(len(noisy), -1)
        added = {"text_embeds": pooled, "time_ids": sizes}
        found = self.network(noisy.to(self.dtype), t, hidden, added_cond_kwargs=added)
        return found.sample.float()


def encode_by_both(
    encoders: list[tuple[Any, Any]], text: str, ids: Callable[..., Tensor] = token_ids
) -> tuple[Embeddings, list[Any]]:
    """Encode ``text`` with two CLIP encoders.

    Args:
        encoders: pairs of a tokenizer and its encoder.
        text: the text to encode.
        ids: the function that makes the token ids. It refuses a text that is too long, or cuts it.

    Returns:
        The penultimate hidden states side by side, and the full output of each encoder.
    """
    found = [
        encoder(
            ids(tokenizer, text, encoder.device, tokenizer.model_max_length),
            output_hidden_states=True,
        )
        for tokenizer, encoder in encoders
    ]
    hidden = torch.cat([each.hidden_states[-2] for each in found], dim=-1)
    return hidden, found


def pack(hidden: Embeddings, pooled: Float[Tensor, "b width"]) -> Float[Tensor, "b l+1 d"]:
    """Append the pooled embedding, which must not be wider, to the token embeddings as a row."""
    return torch.cat([hidden, pad(pooled, (0, hidden.shape[-1] - pooled.shape[-1]))[:, None]], 1)


def unpack(
    embeddings: Float[Tensor, "b rows d"], width: int
) -> tuple[Embeddings, Float[Tensor, "b {width}"]]:
    """Undo ``pack``, given the ``width`` of the pooled embedding."""
    return embeddings[:, :-1], embeddings[:, -1, :width]
