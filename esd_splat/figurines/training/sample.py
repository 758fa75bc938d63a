"""Sampling of images from a folder in the layout of Stable Diffusion, in batches."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging
from torch import Tensor

from esd_splat.errors import TeacherError
from esd_splat.types import Images


class Sampler:
    """A Stable Diffusion pipeline without logging and progress bars."""

    def __init__(self, folder: Path, steps: int, batch: int, device: str) -> None:
        if not (folder / "model_index.json").is_file():
            raise TeacherError(f"{folder}: has no model_index.json; train a model with --out first")
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.pipeline = StableDiffusionPipeline.from_pretrained(
            folder, local_files_only=True, safety_checker=None
        ).to(device, torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        self.steps, self.batch = steps, batch

    @torch.no_grad()
    def draw(self, prompts: list[str], guidance_scale: float, seed: int) -> Images:
        """Sample an image per prompt, on the CPU. The noise depends on the seed and the row."""
        generator = torch.Generator().manual_seed(seed)
        unet = self.pipeline.unet
        side = unet.config.sample_size
        noise = torch.randn(len(prompts), unet.config.in_channels, side, side, generator=generator)
        parts = [
            self._draw(prompts[i : i + self.batch], guidance_scale, noise[i : i + self.batch])
            for i in range(0, len(prompts), self.batch)
        ]
        return torch.cat(parts)

    def _draw(self, prompts: list[str], guidance_scale: float, noise: Tensor) -> Tensor:
        # At a scale of 1 or less, the pipeline skips guidance and the unconditional prediction.
        output = self.pipeline(
            prompts,
            num_inference_steps=self.steps,
            guidance_scale=guidance_scale,
            latents=noise.to(self.pipeline.device),
            output_type="pt",
        )
        return output.images.float().cpu()  # pyright: ignore[reportAttributeAccessIssue]
