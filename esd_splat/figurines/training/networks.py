"""The untrained networks of the embedded teacher, as standard diffusers and transformers models."""

from pathlib import Path
from typing import cast

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from esd_splat.types import Images

IMAGE_SIZE = 64
PATCH = 3 * 4 * 4
"""Values in the patch of image pixels that one latent pixel stands for."""
LATENT_CHANNELS = 12
"""Components kept per patch. 12 give 29 dB, 8 give 26 dB, and 4, as in Stable Diffusion, 23 dB."""
TOKENS = 12
"""Length of tokenized captions. The longest has nine tokens, including start and end."""


def make_vae(images: Images) -> AutoencoderTiny:
    """Make a VAE from 64 x 64 x 3 to 16 x 16 x 12, by PCA of the 4 x 4 patches of ``images``.

    The encoder is linear and needs no training: strided convolutions gather each patch, and the
    last one projects it. Components are scaled to the square root of their standard deviation.
    Without scaling, fine detail would drown in noise, and with whitening, it would be as loud as
    colour. The decoder has yet to be trained.
    """
    vae = AutoencoderTiny(
        encoder_block_out_channels=(PATCH,) * 3,
        decoder_block_out_channels=(32,) * 3,
        num_encoder_blocks=(0, 0, 0),
        num_decoder_blocks=(3, 2, 1),
        latent_channels=LATENT_CHANNELS,
        scaling_factor=1.0,
    )
    first, second, third, last = (cast(nn.Conv2d, layer) for layer in vae.encoder.layers)
    with torch.no_grad():
        for layer in (first, second, third, last):
            layer.weight.zero_()
            if layer.bias is not None:
                layer.bias.zero_()
        for channel in range(3):
            first.weight[channel, channel, 1, 1] = 1
        for gather, channels in ((second, 3), (third, 12)):
            for index in range(4 * channels):
                channel, corner = divmod(index, 4)
                gather.weight[index, channel, 1 + corner // 2, 1 + corner % 2] = 1
        patches = images
        for layer in (first, second, third):
            patches = layer(patches)
        flat = patches.mT.movedim(1, -1).reshape(-1, PATCH).double()
        mean = flat.mean(0)
        variances, vectors = torch.linalg.eigh((flat - mean).mT @ (flat - mean) / len(flat))
        chosen = vectors[:, -LATENT_CHANNELS:] / variances[-LATENT_CHANNELS:] ** 0.25
        last.weight[:, :, 1, 1] = chosen.mT.float()
        last.bias = nn.Parameter(-(mean @ chosen).float())
        vae.register_to_config(scaling_factor=1 / ((flat - mean) @ chosen).std().item())
    vae.encoder.requires_grad_(False)
    return vae


def make_unet() -> UNet2DConditionModel:
    """Make a noise predictor for 16 x 16 x 12 latents, with attention at 8 x 8 and 4 x 4."""
    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 4,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(48, 96, 128),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=8,
    )


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Make a CLIP text encoder with two layers of width 64."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=256,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=cast(int, tokenizer.bos_token_id),
            eos_token_id=cast(int, tokenizer.eos_token_id),
            pad_token_id=cast(int, tokenizer.pad_token_id),
        )
    )


def make_scheduler() -> DDIMScheduler:
    """Make a scheduler with the noise schedule of Stable Diffusion and noise prediction."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def save_pipeline(
    folder: Path,
    vae: AutoencoderTiny,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
) -> None:
    """Save the networks as a Stable Diffusion folder in half precision."""
    from diffusers import StableDiffusionPipeline  # slow to import, and only needed here

    pipeline = StableDiffusionPipeline(
        vae=vae,  # pyright: ignore[reportArgumentType]
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=make_scheduler(),  # pyright: ignore[reportArgumentType]
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16, silence_dtype_warnings=True)
    pipeline.save_pretrained(folder, safe_serialization=True)
    pipeline.to(dtype=torch.float32)
