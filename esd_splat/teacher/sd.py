"""Stable Diffusion 1 and 2: one CLIP text encoder, and a UNet that predicts noise or velocity."""

from typing import Any

import torch
from typing_extensions import override

from esd_splat.teacher.base import Embeddings
from esd_splat.teacher.latent import LatentTeacher, check_fit, token_ids
from esd_splat.teacher.memory import Memory
from esd_splat.teacher.traced import SUPPORTED, Traced
from esd_splat.types import Latents, Timesteps

PARTS = {
    "tokenizer": "transformers.CLIPTokenizer",
    "text_encoder": "transformers.CLIPTextModel",
    "vae": "diffusers.AutoencoderKL",
    "unet": "diffusers.UNet2DConditionModel",
    "scheduler": "diffusers.DDPMScheduler",
}
TEXT_WIDTH = "its text encoders make {} values per token"


class Sd(LatentTeacher):
    """Stable Diffusion 1 or 2. Its embeddings are the last hidden states of the text encoder."""

    def __init__(
        self,
        parts: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        memory: Memory,
    ) -> None:
        scheduler = parts["scheduler"]
        schedule, predicts = scheduler.alphas_cumprod, scheduler.config.prediction_type
        super().__init__(parts, parts["unet"], predicts, schedule, device, dtype, memory)
        width = parts["text_encoder"].config.hidden_size
        check_fit(TEXT_WIDTH, width, parts["unet"].config.cross_attention_dim)
        self.time_embedding = parts["unet"].time_embedding
        self._tokenizer, self._text = parts["tokenizer"], parts["text_encoder"]
        of_cpu = SUPPORTED and (device.type, dtype) == ("cpu", torch.float32)
        traced = memory.trace and not memory.compile and of_cpu
        self._traced = Traced(self.network) if traced else None

    @override
    def encode_text(self, text: str) -> Embeddings:
        return self._text(token_ids(self._tokenizer, text, self._text.device)).last_hidden_state

    @override
    def output(self, noisy: Latents, t: Timesteps, embeddings: Embeddings) -> Latents:
        inputs = noisy.to(self.dtype), t, embeddings.to(self.dtype)
        if self._traced is not None and self.pristine and not torch.is_grad_enabled():
            return self._traced(*inputs).float()
        return self.network(*inputs).sample.float()
