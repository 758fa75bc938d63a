"""Reading single-file checkpoints, which have the layout of the models' authors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esd_splat.errors import TeacherError
from esd_splat.teacher.families import SD, SD3, SDXL, Family
from esd_splat.teacher.loading import DamagedError
from esd_splat.teacher.weight_files import Stored, read_header

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
"""The prefix of each network's keys, by the pipeline of the family."""
_KINDS: tuple[tuple[str, Family | str, str | None], ...] = (
    (r"(^lora_|\.lora_|_lora\.)", "a LoRA: give it as teacher.lora, beside a teacher.model", None),
    (r"^conditioner\.embedders\.0\.model\.", "the refiner of Stable Diffusion XL", None),
    (r"^control_model\.", "a ControlNet", None),
    (
        r"^(model\.diffusion_model\.)?camera_embed\.",
        "MVDream in its authors' layout: give teacher.model=ashawkey/mvdream-sd2.1-diffusers",
        None,
    ),
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
"""Kinds of files, each told by a pattern of keys. The first pattern that matches a key decides. It
gives a family and the model whose configs and tokenizers fit, or says what else the file is. Stable
Diffusion 2 and 2-base have the same keys but predict different things, so no model is named."""
_FIRST_LAYERS = tuple(
    f"model.diffusion_model.{layer}.weight" for layer in ("input_blocks.0.0", "x_embedder.proj")
)
_MORE_CHANNELS = {
    5: "a depth-to-image model",
    8: "an InstructPix2Pix model",
    9: "an inpainting model",
    33: "an inpainting model",
}
"""What a model is whose first layer takes more channels than those of latents."""
SCALES = (".scale_weight", ".weight_scale")
"""The ends of the names of scales of float8 weights: ComfyUI's, old and new."""
_OLDEST = r"^(cond_stage_model\.transformer\.)(?=embeddings\.|encoder\.|final_layer_norm\.)"
"""The text encoder's names in the oldest files, which lack a level."""
_UNSCALED = "give the file in half precision, or in float8 with one scale for each layer"


@dataclass(frozen=True)
class SingleFile:
    """What the header of a checkpoint says, without its weights."""

    path: Path
    family: Family
    holds: frozenset[str]
    """The networks in it, by the names of their folders in diffusers' layout."""
    original: str | None
    """The hub id of the model that it derives from, or ``None`` if the keys do not tell."""
    predicts_v: bool
    """Whether it says that it predicts v, as some fine-tuned models of SDXL do."""


def identify(path: Path) -> SingleFile:
    """Find out from its keys which model a file holds. No weight is read.

    Raises:
        TeacherError: the file is not a safetensors file, or holds another kind of model.
    """
    header = read_header("teacher.model", path)
    for mark, kind, original in _KINDS:
        if not any(re.search(mark, key) for key in header):
            continue
        if isinstance(kind, str):
            raise TeacherError(f"teacher.model: {path} is {kind}")
        _check_storage(path, header)
        starts = _PREFIXES[kind.pipeline]
        holds = frozenset(
            name for name, start in starts.items() if any(key.startswith(start) for key in header)
        )
        return SingleFile(path, kind, holds, original, predicts_v="v_pred" in header)
    raise TeacherError(
        f"teacher.model: {path} is not Stable Diffusion 1, 2, XL or 3 in its authors' layout "
        f"(it has keys such as {next(iter(header), 'none')!r}); give a whole checkpoint, or a "
        "folder saved by diffusers"
    )


def read_weights(path: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """Read all weights of a checkpoint. Those that have scales are multiplied by them.

    Args:
        path: the checkpoint.
        dtype: the precision of the products.

    Raises:
        TeacherError: weights have other scales than one for each layer or row.
    """
    from safetensors.torch import load_file

    weights = {re.sub(_OLDEST, r"\1text_model.", key): w for key, w in load_file(path).items()}
    for key in [key for key in weights if key.endswith(SCALES)]:
        name = f"{key.rpartition('.')[0]}.weight"
        scale, weight = weights.pop(key), weights.get(name)
        if weight is None or not scale.is_floating_point() or scale.numel() not in (1, len(weight)):
            raise TeacherError(
                f"teacher.model: {path} has scales {key!r} of the shape {[*scale.shape]}, which is "
                f"not one for each layer or row of its weights; {_UNSCALED}"
            )
        rows = scale.float().view(-1, *[1] * (weight.ndim - 1))
        weights[name] = (weight.float() * rows).to(dtype)
    return weights


def load_network(
    kind: Any, name: str, weights: Mapping[str, Tensor], where: str, dtype: torch.dtype
) -> Any:
    """Return the network ``name`` of a checkpoint.

    Args:
        kind: the class of the network.
        name: the name of its folder in diffusers' layout.
        weights: all weights of the file.
        where: the folder or hub id that has the network's config.
        dtype: the precision to convert to.

    Raises:
        DamagedError: the file lacks weights of the network.
    """
    from diffusers.loaders import single_file_utils as convert

    options: dict[str, Any] = {"config": where, "subfolder": name, "torch_dtype": dtype}
    own = dict(weights)  # the converters remove the weights that they use
    if hasattr(kind, "from_single_file"):
        try:
            part = kind.from_single_file(own, **options)
        except NotImplementedError as error:  # by torch, when it moves a weight without values
            raise DamagedError("the file lacks some of its weights") from error
    elif name == "text_encoder_3":
        part = convert.create_diffusers_t5_model_from_checkpoint(kind, own, **options)
        part.tie_weights()
    else:
        part = convert.create_diffusers_clip_model_from_ldm(kind, own, **options)
    # Weights that the file lacks are silently left without values.
    if lacking := sorted(key for key, weight in part.named_parameters() if weight.is_meta):
        raise DamagedError(f"the file lacks {len(lacking)} weights, such as {lacking[0]}")
    return part.eval()


def _check_storage(path: Path, header: Mapping[str, Stored]) -> None:
    """Refuse networks that need more than latents, and weights that are quantized to integers."""
    for key in _FIRST_LAYERS:
        channels = dict(enumerate(header[key].shape)).get(1) if key in header else None
        if what := _MORE_CHANNELS.get(channels or 0):
            raise TeacherError(
                f"teacher.model: {path} is {what}: its network takes {channels} channels, which "
                "are more than the latents; give a model that draws from a text alone"
            )
    for key, stored in header.items():
        if key.endswith(".weight") and not re.match("B?F", stored.dtype):
            raise TeacherError(
                f"teacher.model: {path} is quantized ({key} is stored as {stored.dtype}); "
                f"{_UNSCALED}"
            )
