"""Teachers with random weights.

The command is ``python -m esd_splat.teacher.random_weights --family sd21 --out FOLDER``.

Such a teacher draws nothing useful, but it is loaded, called and trained on like a real one. So the
memory and time of a full-size model can be measured without a download, and tests can use tiny
models.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from esd_splat import command
from esd_splat.errors import OutputError
from esd_splat.teacher.families import FAMILIES, INDEX, MULTI_VIEW, MVDREAM, SD, SD3, SDXL, Family
from esd_splat.teacher.tokenizer import make_tokenizer

WORDS = (
    *("a", "red", "blue", "smiling", "owl", "cat"),
    *("front", "side", "back", "overhead", "view", ","),
)
"""The whole vocabulary of their tokenizers. A real vocabulary is data that is not ours to ship."""
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
}
Keys = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """The configuration of a model's networks, in the terms of diffusers and transformers."""

    network: Keys
    encoders: tuple[Keys, ...]
    """The CLIP text encoders. All families but Stable Diffusion 1 and 2 use a pooled output too."""
    vae: Keys = field(default_factory=dict)
    t5: Keys | None = None
    predicts: str = "epsilon"


def _clip(width: int, layers: int, heads: int, projection: int = 768, **more: int) -> Keys:
    """Return a text encoder's configuration, by default with CLIP's vocabulary and 77 tokens."""
    keys = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    keys |= {"intermediate_size": 4 * width, "projection_dim": projection}
    return keys | {"vocab_size": 49408, "max_position_embeddings": 77} | more


def _unet(size: int, widths: tuple[int, ...], context: int, heads: Any, **more: Any) -> Keys:
    keys: Keys = {"sample_size": size, "block_out_channels": widths}
    return keys | {"cross_attention_dim": context, "attention_head_dim": heads} | more


_TOLD = {"addition_embed_type": "text_time"}
_CAMERA = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}
_SDXL_BLOCKS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 6 * 256 + 1280,
}
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
_TINY_VAE = {
    "block_out_channels": (4, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 16,
    "mid_block_add_attention": False,
    "scaling_factor": 0.5,
}
_TINY_UNET: Keys = {
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
_WIDTHS = (320, 640, 1280, 1280)
_L, _H, _G = _clip(768, 12, 12), _clip(1024, 23, 16), _clip(1280, 32, 20, 1280)
_TOKENS = {"vocab_size": 600, "max_position_embeddings": 12}
_SMALL, _WIDER = _clip(16, 2, 2, 16, **_TOKENS), _clip(24, 2, 2, 12, **_TOKENS)

SHAPES = {
    "sd15": Shape(_unet(64, _WIDTHS, 768, 8), (_L,), _VAE),
    "sd21": Shape(
        _unet(96, _WIDTHS, 1024, (5, 10, 20, 20), use_linear_projection=True),
        (_H,),
        _VAE,
        predicts="v_prediction",
    ),
    "sd21-base": Shape(
        _unet(64, _WIDTHS, 1024, (5, 10, 20, 20), use_linear_projection=True), (_H,), _VAE
    ),
    "sdxl": Shape(
        _unet(128, _WIDTHS[:3], 2048, (5, 10, 20), **_TOLD, **_SDXL_BLOCKS),
        (_L, _G),
        _VAE | {"scaling_factor": 0.13025},
    ),
    "sd3": Shape(
        {
            "sample_size": 128,
            "num_layers": 24,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "pos_embed_max_size": 192,
        },
        (_L, _G),
        _VAE | {"latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609},
        {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
    ),
    "mvdream": Shape(
        _unet(32, _WIDTHS, 1024, (5, 10, 20, 20), use_linear_projection=True, **_CAMERA),
        (_H,),
        _VAE,
    ),
    "tiny-sd": Shape(
        _unet(4, (8, 16), 16, 2, **_TINY_UNET), (_clip(16, 1, 2, 12, **_TOKENS),), _TINY_VAE
    ),
    "tiny-views": Shape(
        _unet(4, (8, 16), 24, 2, **_TINY_UNET, **_CAMERA),
        (_clip(24, 1, 2, 12, **_TOKENS),),
        _TINY_VAE,
    ),
    "tiny-mvdream": Shape(
        _unet(
            *(4, (32, 64), 24, (2, 4)),
            **(_TINY_UNET | _CAMERA | {"norm_num_groups": 32}),
            use_linear_projection=True,
        ),
        (_clip(24, 1, 2, 12, **_TOKENS),),
        _TINY_VAE,
    ),
    "tiny-sdxl": Shape(
        _unet(
            *(4, (8, 16), 40, 2),
            **(_TINY_UNET | _TOLD),
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + 12,
        ),
        (_SMALL, _WIDER),
        _TINY_VAE,
    ),
    "tiny-sd3": Shape(
        {
            "sample_size": 4,
            "patch_size": 1,
            "num_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "joint_attention_dim": 48,
            "caption_projection_dim": 16,
            "pooled_projection_dim": 28,
            "pos_embed_max_size": 8,
        },
        (_SMALL, _WIDER),
        _TINY_VAE | {"latent_channels": 16, "shift_factor": 0.1},
        {"d_model": 48, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
    ),
}
"""The published configurations of real models, and tiny ones of the same classes. Stable Diffusion
3 also works without its T5 encoder, which is larger than all other parts together."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write a model folder and return the exit status. See ``command.run``."""
    return command.run(lambda: _main(argv), "blank")


def _main(argv: Sequence[str] | None) -> None:
    parser = command.Parser(prog="python -m esd_splat.teacher.random_weights", description=__doc__)
    parser.add_argument("--family", choices=SHAPES, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--t5", action="store_true", help="include Stable Diffusion 3's T5 encoder")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.out.exists():
        raise OutputError(f"--out: {args.out} exists; choose another folder")
    save_blank(args.out, args.family, t5=args.t5, seed=args.seed)
    size = sum(file.stat().st_size for file in args.out.rglob("*.safetensors"))
    print(f"wrote {args.out}: {size / 2**30:.2f} GB of random weights")


def save_blank(
    folder: Path, family: str, *, t5: bool = False, predicts: str | None = None, seed: int = 0
) -> Path:
    """Write a model folder with random weights. The same seed gives the same weights.

    Args:
        folder: where to write. Models of real size are written in half precision.
        family: one of ``SHAPES``.
        t5: whether Stable Diffusion 3 gets its third text encoder, T5.
        predicts: the prediction type that the scheduler states; the family's own by default.
        seed: seed of the weights.

    Returns:
        The folder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind, parts = build_parts(family, t5=t5, predicts=predicts)
    pipeline = kind.as_pipeline(parts)
    if not family.startswith("tiny"):
        pipeline.to(dtype=torch.float16, silence_dtype_warnings=True)
    unfinished = folder.with_name(f".{folder.name}.tmp")
    pipeline.save_pretrained(unfinished)
    index = unfinished / INDEX
    named = next(name for name, one in FAMILIES.items() if one is kind)
    if named != kind.pipeline:  # diffusers has no pipeline for it
        found = json.loads(index.read_text()) | {"_class_name": named}
        index.write_text(json.dumps(found, indent=2))
    return unfinished.rename(folder)


def build_parts(
    family: str, *, t5: bool = False, predicts: str | None = None, device: str = "cpu"
) -> tuple[Family, dict[str, Any]]:
    """Return a family and its parts by name, with weights from the global random generator.

    Args:
        family: one of ``SHAPES``.
        t5: whether Stable Diffusion 3 gets its third text encoder, T5.
        predicts: the prediction type that the scheduler states; the family's own by default.
        device: where the networks are made. On ``meta`` they have shapes and no values.
    """
    import diffusers
    import transformers

    shape, name = SHAPES[family], family.removeprefix("tiny-")
    kind = {"sdxl": SDXL, "sd3": SD3, "views": MULTI_VIEW, "mvdream": MVDREAM}.get(name, SD)
    make = cast(Any, diffusers)  # its annotations are too narrow
    # The encoders have no position embeddings for longer texts.
    tokenizer = make_tokenizer(WORDS, shape.encoders[0]["max_position_embeddings"])
    with torch.device(device):
        parts: dict[str, Any] = {"vae": make.AutoencoderKL(**shape.vae)}
        if kind is SD3:
            parts["transformer"] = make.SD3Transformer2DModel(**shape.network)
        else:
            parts["unet"] = make.UNet2DConditionModel(**shape.network)
        for index, keys in enumerate(shape.encoders):
            pooled = kind is SD3 or index == 1
            of = transformers.CLIPTextModelWithProjection if pooled else transformers.CLIPTextModel
            marks = ("bos_token_id", "eos_token_id", "pad_token_id")
            ends = {name: getattr(tokenizer, name) for name in marks}
            config = transformers.CLIPTextConfig(**ends, **keys)
            number = "" if index == 0 else f"_{index + 1}"
            parts[f"tokenizer{number}"], parts[f"text_encoder{number}"] = tokenizer, of(config)
        if kind is SD3:
            parts |= {"tokenizer_3": None, "text_encoder_3": None}
        if t5 and shape.t5 is not None:
            pieces = ("<pad>", "</s>", "<unk>", *(f"\u2581{word}" for word in WORDS))
            vocabulary = [(piece, -float(index)) for index, piece in enumerate(pieces)]
            make_third = cast(Any, transformers).T5TokenizerFast
            parts["tokenizer_3"] = make_third(vocab=vocabulary, extra_ids=0)
            config = transformers.T5Config(vocab_size=len(pieces), **shape.t5)
            parts["text_encoder_3"] = transformers.T5EncoderModel(config)
    if kind is SD3:
        parts["scheduler"] = make.FlowMatchEulerDiscreteScheduler(shift=3.0)
    else:
        said = predicts or shape.predicts
        parts["scheduler"] = make.DDIMScheduler(**SCHEDULE, prediction_type=said)
    return kind, parts


if __name__ == "__main__":
    sys.exit(main())
