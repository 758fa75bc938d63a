"""A Stable Diffusion folder small enough for tests: the real classes, random weights."""

from pathlib import Path
from typing import Any, cast

import torch

IMAGE_SIZE = 16
WORDS = ("a", "red", "blue", "owl", "cat", "front", "side", "back", "overhead", "view", ",")


def save_tiny(folder: Path, prediction_type: str = "epsilon") -> Path:
    """16 x 16 pictures, 4 x 4 latents; the same weights every time."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    # Their annotations are narrower than what they take: tuple[str] for three block types.
    make_vae, make_scheduler = cast(Any, AutoencoderKL), cast(Any, DDIMScheduler)
    from transformers import CLIPTextConfig, CLIPTextModel

    from esd_splat.teacher.train_networks import make_tokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = make_vae(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(4, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=IMAGE_SIZE,
            mid_block_add_attention=False,
            scaling_factor=0.5,
        )
        unet = UNet2DConditionModel(
            sample_size=IMAGE_SIZE // 4,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=2,
        )
        tokenizer = make_tokenizer(WORDS)
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=12,
                bos_token_id=cast(int, tokenizer.bos_token_id),
                eos_token_id=cast(int, tokenizer.eos_token_id),
                pad_token_id=cast(int, tokenizer.pad_token_id),
            )
        )
    vae.save_pretrained(folder / "vae")
    unet.save_pretrained(folder / "unet")
    text.save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    make_scheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
    ).save_pretrained(folder / "scheduler")
    return folder
