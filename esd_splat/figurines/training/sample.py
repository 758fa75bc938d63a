"""Pictures drawn by a Stable-Diffusion-like folder, in batches, from a seed."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging
from torch import Tensor

from esd_splat.errors import TeacherError
from esd_splat.types import Images


class Sampler:
    """A pipeline without its ceremony."""

    def __init__(self, folder: Path, steps: int, batch: int, device: str) -> None:
        if not (folder / "model_index.json").is_file():
            raise TeacherError(f"{folder}: no model_index.json there; train one with --out first")
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.pipeline = StableDiffusionPipeline.from_pretrained(
            folder, local_files_only=True, safety_checker=None
        ).to(device, torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        self.steps, self.batch = steps, batch

    @torch.no_grad()
    def draw(self, prompts: list[str], guidance_scale: float, seed: int) -> Images:
        """One picture per prompt by DDIM, on the CPU. Noise depends on the seed and the row."""
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
        # The pipeline's own guidance is off at 1 and below; so is the second pass through the net.
        output = self.pipeline(
            prompts,
            num_inference_steps=self.steps,
            guidance_scale=guidance_scale,
            latents=noise.to(self.pipeline.device),
            output_type="pt",
        )
        return output.images.float().cpu()  # pyright: ignore[reportAttributeAccessIssue]
