"""Stable Diffusion 3: a transformer that predicts the flow from images to noise."""

from typing import Any

import torch
from torch.nn.functional import pad
from typing_extensions import override

from esd_splat.teacher.base import Embeddings
from esd_splat.teacher.latent import LatentTeacher, check_fit, clipped_ids, token_ids
from esd_splat.teacher.memory import Memory
from esd_splat.teacher.noise import alpha_sigma
from esd_splat.teacher.sdxl import encode_by_both, pack, unpack
from esd_splat.types import Latents, Timesteps

PARTS = {
    "tokenizer": "transformers.CLIPTokenizer",
    "tokenizer_2": "transformers.CLIPTokenizer",
    "text_encoder": "transformers.CLIPTextModelWithProjection",
    "text_encoder_2": "transformers.CLIPTextModelWithProjection",
    "vae": "diffusers.AutoencoderKL",
    "transformer": "diffusers.SD3Transformer2DModel",
    "scheduler": "diffusers.FlowMatchEulerDiscreteScheduler",
}
OPTIONAL = {
    "tokenizer_3": "transformers.T5TokenizerFast",
    "text_encoder_3": "transformers.T5EncoderModel",
}
"""The largest text encoder. The model was trained to work without it, too."""
T5_TOKENS = 256


class Sd3(LatentTeacher):
    """Stable Diffusion 3.

    Its embeddings are the penultimate hidden states of both CLIP encoders side by side, then the
    last hidden states of T5 (zeros if there is no T5), and a last row with the pooled embedding.

    The network is trained on straight lines, ``(1 - u) clean + u noise``. To the rest of the
    library these are a variance-preserving schedule, on which the same points are scaled to unit
    variance: ``alphas_cumprod = (1 - u)^2 / ((1 - u)^2 + u^2)``. The values of ``u`` are those of
    the scheduler, shifted towards noise as in training.
    """

    def __init__(
        self,
        parts: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        memory: Memory,
    ) -> None:
        network = parts["transformer"]
        count = parts["scheduler"].config.num_train_timesteps
        # Until a number of steps is set, these are the noise levels of training, highest first.
        u = parts["scheduler"].sigmas[:count].flip(0).double()
        schedule = (1 - u) ** 2 / ((1 - u) ** 2 + u**2)
        super().__init__(parts, network, "flow", schedule, device, dtype, memory)
        self.time_embedding = network.time_text_embed.timestep_embedder
        self._clip = [
            (parts["tokenizer"], parts["text_encoder"]),
            (parts["tokenizer_2"], parts["text_encoder_2"]),
        ]
        self._t5 = parts.get("tokenizer_3"), parts.get("text_encoder_3")
        self._width: int = network.config["joint_attention_dim"]
        self._pooled: int = network.config["pooled_projection_dim"]
        pooled = sum(encoder.config.projection_dim for _, encoder in self._clip)
        check_fit("its text encoders make {} pooled values", pooled, self._pooled)
        if self._t5[1] is not None:
            check_fit("its T5 makes {} values per token", self._t5[1].config.d_model, self._width)
        self._times = float(count)

    @override
    def encode_text(self, text: str) -> Embeddings:
        # A text that is too long for CLIP may be cut off there if T5 reads all of it.
        ids = token_ids if self._t5[1] is None else clipped_ids
        clip, found = encode_by_both(self._clip, text, ids)
        clip = pad(clip, (0, self._width - clip.shape[-1]))
        pooled = torch.cat([each.text_embeds for each in found], dim=-1)
        return pack(torch.cat([clip, self._encode_t5(text)], dim=1), pooled)

    def _encode_t5(self, text: str) -> Embeddings:
        tokenizer, encoder = self._t5
        if tokenizer is None or encoder is None:
            return torch.zeros(1, T5_TOKENS, self._width, device=self._clip[0][1].device)
        return encoder(token_ids(tokenizer, text, encoder.device, T5_TOKENS))[0]

    @override
    def output(self, noisy: Latents, t: Timesteps, embeddings: Embeddings) -> Latents:
        hidden, pooled = unpack(embeddings.to(self.dtype), self._pooled)
        alpha, sigma = alpha_sigma(self.alphas_cumprod, t)
        line = noisy / (alpha + sigma)
        u = (sigma / (alpha + sigma)).flatten()
        found = self.network(line.to(self.dtype), hidden, pooled, u * self._times)
        return found.sample.float()
