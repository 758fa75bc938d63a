"""Teachers small enough for tests: the real classes of each family, random weights."""

from pathlib import Path
from typing import Any, cast

import torch

IMAGE_SIZE = 16
WORDS = ("a", "red", "blue", "owl", "cat", "front", "side", "back", "overhead", "view", ",")
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _vae(channels: int = 4, **more: Any) -> Any:
    from diffusers import AutoencoderKL

    # Their annotations are narrower than what they take: tuple[str] for three block types.
    return cast(Any, AutoencoderKL)(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=IMAGE_SIZE,
        mid_block_add_attention=False,
        scaling_factor=0.5,
        latent_channels=channels,
        **more,
    )


def _unet(width: int, **more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=2,
        **more,
    )


def _clip(tokenizer: Any, layers: int = 2, kind: str = "CLIPTextModelWithProjection") -> Any:
    """A text encoder, 16 wide."""
    import transformers

    return getattr(transformers, kind)(
        transformers.CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            projection_dim=12,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=12,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def save_tiny(folder: Path, prediction_type: str = "epsilon") -> Path:
    """16 x 16 pictures, 4 x 4 latents; the same weights every time."""
    from diffusers import DDIMScheduler

    from esd_splat.teacher.train_networks import make_tokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = make_tokenizer(WORDS)
        _vae().save_pretrained(folder / "vae")
        _unet(16).save_pretrained(folder / "unet")
        _clip(tokenizer, 1, "CLIPTextModel").save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    cast(Any, DDIMScheduler)(**SCHEDULE, prediction_type=prediction_type).save_pretrained(
        folder / "scheduler"
    )
    return folder


def save_tiny_xl(folder: Path) -> Path:
    """A Stable Diffusion XL of the same size."""
    import diffusers

    from esd_splat.teacher.train_networks import make_tokenizer

    told = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = make_tokenizer(WORDS)
        cast(Any, diffusers.StableDiffusionXLPipeline)(
            vae=_vae(force_upcast=True),
            text_encoder=_clip(tokenizer, kind="CLIPTextModel"),
            text_encoder_2=_clip(tokenizer),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=_unet(32, **told, projection_class_embeddings_input_dim=6 * 4 + 12),
            scheduler=cast(Any, diffusers.EulerDiscreteScheduler)(**SCHEDULE),
            add_watermarker=False,
        ).save_pretrained(folder)
    return folder


def save_tiny_3(folder: Path, t5: bool = True) -> Path:
    """A Stable Diffusion 3 of the same size, with or without its T5."""
    import diffusers
    import transformers

    from esd_splat.teacher.train_networks import make_tokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = make_tokenizer(WORDS)
        pieces = ("<pad>", "</s>", "<unk>", *(f"\u2581{word}" for word in WORDS))
        third = cast(Any, transformers.T5TokenizerFast)(
            vocab=[(piece, -float(index)) for index, piece in enumerate(pieces)], extra_ids=0
        )
        encoder = transformers.T5EncoderModel(
            transformers.T5Config(
                vocab_size=len(pieces), d_model=40, d_kv=8, d_ff=32, num_layers=1, num_heads=2
            )
        )
        cast(Any, diffusers.StableDiffusion3Pipeline)(
            vae=_vae(16, shift_factor=0.1),
            text_encoder=_clip(tokenizer),
            text_encoder_2=_clip(tokenizer),
            text_encoder_3=encoder if t5 else None,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            tokenizer_3=third if t5 else None,
            transformer=diffusers.SD3Transformer2DModel(
                sample_size=IMAGE_SIZE // 4,
                patch_size=1,
                in_channels=16,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=40,
                caption_projection_dim=16,
                pooled_projection_dim=24,
                out_channels=16,
                pos_embed_max_size=8,
            ),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        ).save_pretrained(folder)
    return folder
