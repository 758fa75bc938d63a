"""Checkpoints of one file, in the layout of the models' authors: what is in them, reading it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esd_splat.errors import TeacherError
from esd_splat.teacher.families import SD, SD3, SDXL, Family
from esd_splat.teacher.loading import PICKLES, SAFE, reason

_UNET = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
_PREFIXES = {
    SD.pipeline: _UNET | {"text_encoder": "cond_stage_model."},
    SDXL.pipeline: _UNET
    | {"text_encoder": "conditioner.embedders.0.", "text_encoder_2": "conditioner.embedders.1."},
    SD3.pipeline: {
        "transformer": "model.diffusion_model.",
        "vae": "first_stage_model.",
        "text_encoder": "text_encoders.clip_l.",
        "text_encoder_2": "text_encoders.clip_g.",
        "text_encoder_3": "text_encoders.t5xxl.",
    },
}
"""How the keys of each network start."""
_KINDS: tuple[tuple[str, Family | str, str | None], ...] = (
    (r"(^lora_|\.lora_|_lora\.)", "a LoRA: give it as teacher.lora, beside a teacher.model", None),
    (r"^conditioner\.embedders\.0\.model\.", "the refiner of Stable Diffusion XL", None),
    (r"^control_model\.", "a ControlNet", None),
    (r"^model\.diffusion_model\.label_emb\.weight", "an upscaler", None),
    (r"\.joint_blocks\.37\.", SD3, "stabilityai/stable-diffusion-3.5-large"),
    (r"\.x_block\.attn2\.", SD3, "stabilityai/stable-diffusion-3.5-medium"),
    (
        r"^model\.diffusion_model\.joint_blocks\.",
        SD3,
        "stabilityai/stable-diffusion-3-medium-diffusers",
    ),
    (
        r"^model\.diffusion_model\.label_emb\.0\.",
        SDXL,
        "stabilityai/stable-diffusion-xl-base-1.0",
    ),
    (r"^cond_stage_model\.transformer\.", SD, "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    (r"^model\.diffusion_model\.input_blocks\.", SD, None),
)
"""By a key that only they have, the first that matches: a family and the model whose configs and
tokenizers fit, or what else the file is. Stable Diffusion 2 and 2-base have the same keys, but
predict different things."""


@dataclass(frozen=True)
class SingleFile:
    """What the header of a checkpoint tells, without its weights."""

    path: Path
    family: Family
    holds: frozenset[str]
    """The networks in it, by the names of diffusers' folders."""
    original: str | None
    """The hub id of the model that it derives from, if that can be told."""
    predicts_v: bool
    """Whether it says so, as some fine-tuned models of XL do."""


def read_header(path: Path) -> SingleFile:
    """Which model a file is, by its keys; no weight is read.

    Raises:
        TeacherError: a pickle, no safetensors file, or a model of another kind.
    """
    keys = header_keys("teacher.model", path)
    for mark, kind, original in _KINDS:
        if not any(re.search(mark, key) for key in keys):
            continue
        if isinstance(kind, str):
            raise TeacherError(f"teacher.model: {path} is {kind}")
        starts = _PREFIXES[kind.pipeline]
        holds = frozenset(
            name for name, start in starts.items() if any(key.startswith(start) for key in keys)
        )
        return SingleFile(path, kind, holds, original, predicts_v="v_pred" in keys)
    raise TeacherError(
        f"teacher.model: {path} holds no Stable Diffusion 1, 2, XL or 3 in its authors' layout "
        f"(its keys are such as {keys[0] if keys else 'none'!r}); give a whole checkpoint, or a "
        "folder saved by diffusers"
    )


def header_keys(key: str, path: Path) -> list[str]:
    """The names of the weights in a file that a user gave for ``key``; no weight is read.

    Raises:
        TeacherError: a pickle, no such file, or no safetensors file.
    """
    if path.suffix in PICKLES:
        raise TeacherError(
            f"{key}: {path} is a pickle, which runs what is written in it when it is read; give "
            f"the {SAFE} file of the same weights, or convert it on a machine that may"
        )
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return sorted(file.keys())
    except Exception as error:  # a missing file and a cut one share no base class but this one
        raise TeacherError(
            f"{key}: cannot read {path}: {reason(error)}; give a whole {SAFE} file"
        ) from error


def load_network(
    kind: Any, name: str, weights: Mapping[str, Tensor], where: str, dtype: torch.dtype
) -> Any:
    """The network ``name`` of a checkpoint.

    Args:
        kind: its class.
        name: of its folder in diffusers' layout.
        weights: all of the file's.
        where: folder or hub id with its config.
    """
    from diffusers.loaders import single_file_utils as convert

    options: dict[str, Any] = {"config": where, "subfolder": name, "torch_dtype": dtype}
    own = dict(weights)  # the converters take out what they have used
    if hasattr(kind, "from_single_file"):
        try:
            part = kind.from_single_file(own, **options)
        except NotImplementedError as error:  # torch's, of moving what has no values
            raise ValueError("the file lacks some of its weights") from error
    elif name == "text_encoder_3":
        part = convert.create_diffusers_t5_model_from_checkpoint(kind, own, **options)
        part.tie_weights()
    else:
        part = convert.create_diffusers_clip_model_from_ldm(kind, own, **options)
    # What the file does not have is left without values here, and without a word.
    if lacking := sorted(key for key, weight in part.named_parameters() if weight.is_meta):
        raise ValueError(f"the file lacks {len(lacking)} weights, such as {lacking[0]}")
    return part.eval()
