"""IP-Adapters with random weights for tiny teachers, in the folders of h94/IP-Adapter."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from esd_splat.teacher.families import family_of

TOKENS = {"plain": 4, "plus": 6, "face": 10}
"""Image tokens of each kind of adapter. A plain one has 4, as published, and a full-face one takes
all that ``VISION`` makes."""
WIDE = 64
"""Width of a Plus adapter's resampler, which has heads of 64 channels."""
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 24,
    "patch_size": 8,
    "projection_dim": 10,
}


def save_encoder(folder: Path, **other: int) -> None:
    """Write a CLIP image encoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        config = transformers.CLIPVisionConfig(**(VISION | other))  # pyright: ignore
        transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder)


def save_adapter(root: Path, model: Path, kind: str = "plain") -> Path:
    """Write the usual adapter for a tiny model, with its image encoder, and return its file."""
    file = root / str(family_of(model).ip_adapter)
    make: Any = diffusers
    network = make.UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    deep, generator = network.config.cross_attention_dim, torch.Generator().manual_seed(0)
    shapes = {"plain": _plain, "plus": _plus, "face": _face}[kind](deep)
    shapes = {f"image_proj.{name}": shape for name, shape in shapes.items()}
    crossed = [name for name in network.attn_processors if ".attn2." in name]
    for index, name in enumerate(crossed):
        wide = network.get_submodule(name.removesuffix(".processor")).to_k.out_features
        for key in ("to_k_ip", "to_v_ip"):
            shapes[f"ip_adapter.{2 * index + 1}.{key}.weight"] = (wide, deep)
    weights: dict[str, Tensor] = {
        name: torch.randn(shape, generator=generator) for name, shape in shapes.items()
    }
    file.parent.mkdir(parents=True)
    save_file(weights, file)
    save_encoder(file.parent / "image_encoder")
    return file


def _plain(deep: int) -> dict[str, tuple[int, ...]]:
    tall = TOKENS["plain"] * deep
    shapes = {"proj.weight": (tall, VISION["projection_dim"]), "proj.bias": (tall,)}
    return shapes | {"norm.weight": (deep,), "norm.bias": (deep,)}


def _face(deep: int) -> dict[str, tuple[int, ...]]:
    wide = VISION["hidden_size"]
    shapes = {"proj.0.weight": (wide, wide), "proj.0.bias": (wide,)}
    shapes |= {"proj.2.weight": (deep, wide), "proj.2.bias": (deep,)}
    return shapes | {"proj.3.weight": (deep,), "proj.3.bias": (deep,)}


def _plus(deep: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, TOKENS["plus"], WIDE),
        "proj_in.weight": (WIDE, VISION["hidden_size"]),
        "proj_out.weight": (deep, WIDE),
        "norm_out.weight": (deep,),
        "proj_in.bias": (WIDE,),
        "proj_out.bias": (deep,),
        "norm_out.bias": (deep,),
    }
    for layer in (f"layers.{index}" for index in range(4)):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes |= {f"{layer}.{norm}.{name}": (WIDE,) for name in ("weight", "bias")}
        shapes |= {f"{layer}.0.{name}.weight": (WIDE, WIDE) for name in ("to_q", "to_out")}
        shapes |= {f"{layer}.0.to_kv.weight": (2 * WIDE, WIDE)}
        shapes |= {f"{layer}.1.1.weight": (4 * WIDE, WIDE), f"{layer}.1.3.weight": (WIDE, 4 * WIDE)}
    return shapes
