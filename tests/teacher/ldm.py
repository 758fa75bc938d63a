"""Writes a diffusers folder as a single file, with the names of weights that its authors use."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from esd_splat.teacher.authors_layers import SD3, renamed, unet_name

OPEN_CLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding": "token_embedding",
    "encoder.layers": "transformer.resblocks",
    "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
}


def save_single_file(folder: Path, file: Path, layers: int = 1) -> Path:
    """Write all networks of ``folder``, whose UNet has ``layers`` layers per block, to ``file``."""
    prefix, weights = "model.diffusion_model.", {}
    parts = {path.name: _read(path) for path in folder.iterdir() if path.is_dir()}
    sd3, two = "transformer" in parts, "text_encoder_2" in parts
    network = _sd3(parts["transformer"]) if sd3 else _unet(parts["unet"], layers)
    weights |= {prefix + key: weight for key, weight in network.items()}
    weights |= {"first_stage_model." + key: w for key, w in _vae(parts["vae"]).items()}
    first = {
        f"text_model.{k.removeprefix('text_model.')}": w for k, w in parts["text_encoder"].items()
    }
    place = (
        "text_encoders.clip_l."
        if sd3
        else "conditioner.embedders.0."
        if two
        else "cond_stage_model."
    )
    first.pop("text_model.text_projection.weight", None)
    weights |= {f"{place}transformer.{key}": weight for key, weight in first.items()}
    if sd3:
        for name, place in (("text_encoder_2", "clip_g"), ("text_encoder_3", "t5xxl")):
            start = f"text_encoders.{place}.transformer."
            weights |= {start + key: weight for key, weight in parts.get(name, {}).items()}
    elif two:
        start = "conditioner.embedders.1.model."
        weights |= {start + key: w for key, w in _open_clip(parts["text_encoder_2"]).items()}
    save_file({key: weight.contiguous().clone() for key, weight in weights.items()}, file)
    return file


def publish_mvdream(folder: Path) -> Path:
    """Write the UNet of a ``tiny-mvdream`` folder as the published MVDream has it, in place."""
    unet, weights = folder / "unet", _unet(_read(folder / "unet"), layers=1)
    config = {
        "_class_name": "MultiViewUNetModel",
        "image_size": 4,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "channel_mult": [1, 2],
        "num_res_blocks": 1,
        "attention_resolutions": [2],
        "num_head_channels": 16,
        "transformer_depth": 1,
        "context_dim": 24,
        "camera_dim": 16,
        "use_checkpoint": False,
    }
    (unet / "config.json").write_text(json.dumps(config))
    save_file(weights, unet / "diffusion_pytorch_model.safetensors")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"unet": ["mv_unet", "MultiViewUNetModel"], "image_encoder": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _read(part: Path) -> dict[str, Tensor]:
    return {k: w for file in part.glob("*.safetensors") for k, w in load_file(file).items()}


def _renamed(weights: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    return {renamed(key, table): weight for key, weight in weights.items()}


def _unet(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    blocks = {int(match[1]) for key in weights if (match := re.match(r"up_blocks\.(\d+)\.", key))}
    attends = [f"up_blocks.{at}.attentions.0.norm.weight" in weights for at in sorted(blocks)]
    return {unet_name(key, layers + 1, attends): weight for key, weight in weights.items()}


def _vae(weights: Mapping[str, Tensor], blocks: int = 3) -> dict[str, Tensor]:
    table = {"conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut"}
    found = {}
    for key, weight in _renamed(weights, table).items():
        key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
        key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
        key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
        back = re.sub(
            r"up_blocks\.(\d)\.resnets", lambda m: f"up.{blocks - 1 - int(m[1])}.block", key
        )
        key = re.sub(
            r"up_blocks\.(\d)\.upsamplers\.0",
            lambda m: f"up.{blocks - 1 - int(m[1])}.upsample",
            back,
        )
        found[key] = weight
    return found


def _open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values share one matrix, and the projection is transposed."""
    bare = {key.removeprefix("text_model."): weight for key, weight in weights.items()}
    projection, found = bare.pop("text_projection.weight").T, _renamed(bare, OPEN_CLIP)
    for key in [key for key in found if ".attn.q_proj." in key]:
        three = torch.cat(
            [found.pop(key.replace("q_proj", name)) for name in ("q_proj", "k_proj", "v_proj")]
        )
        found[key.replace("q_proj.", "in_proj_")] = three
    return found | {"text_projection": projection}


def _sd3(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Likewise. The last layers' modulation is stored as shift and scale, not scale and shift."""
    found = _renamed(weights, SD3)
    for key in [key for key in found if key.endswith(("attn.to_q.weight", "attn.to_q.bias"))]:
        end = key.rpartition(".")[2]
        block = key.removesuffix(f"attn.to_q.{end}")
        for names, side in (
            (("to_q", "to_k", "to_v"), "x_block"),
            (("add_q_proj", "add_k_proj", "add_v_proj"), "context_block"),
        ):
            three = [found.pop(f"{block}attn.{name}.{end}") for name in names]
            found[f"{block}{side}.attn.qkv.{end}"] = torch.cat(three)
    last = max(int(key.split(".")[1]) for key in found if key.startswith("joint_blocks."))
    for key in found:
        if key.startswith((f"joint_blocks.{last}.context_block.adaLN", "final_layer.adaLN")):
            found[key] = torch.cat(found[key].chunk(2)[::-1])
    return found
