"""MVDream (arXiv:2308.16512): multi-view diffusion that was trained on renders of 3D objects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from esd_splat.teacher.authors_layers import UNET_ENDS
from esd_splat.teacher.loading import SAFE, local_folder
from esd_splat.teacher.multi_view import CAMERA, MultiView

UNET = "MultiViewUNetModel"
"""The class of its published UNet, which is a UNet of diffusers in the authors' layout."""
_CAMERA_EMBEDDING = {
    f"{theirs}.": f"{ours}."
    for ours, theirs in UNET_ENDS.items()
    if theirs.startswith("camera_embed.")
}
"""The names of its layers there, and in diffusers' UNet."""


class MvDream(MultiView):
    """MVDream. It was trained on four evenly spaced views at one elevation."""

    ring = 4

    @override
    def camera(self, c2w: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b 16"]:
        return normalized_camera(c2w)


def normalized_camera(c2w: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b 16"]:
    """Return the camera-to-world matrices that MVDream is told for ours, flattened.

    Its cameras have OpenGL axes (x right, y up, z backward) in a world whose +z is up, and stand at
    distance 1 from the origin. Its azimuth 0, the front, is at +x, and 90 degrees at +y. So its
    ``(x, y, z)`` are our ``(z, x, y)``.
    """
    axes = c2w[:, :3].roll(1, dims=1)
    right, down, forward, eye = axes.unbind(-1)
    moved = torch.stack([right, -down, -forward, F.normalize(eye, dim=-1)], dim=-1)
    return torch.cat([moved, c2w[:, 3:]], dim=1).reshape(-1, CAMERA)


def is_published(config: Mapping[str, Any]) -> bool:
    """Whether a network's config is one of ``UNET``."""
    return config.get("_class_name") == UNET


def unet_config(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of diffusers' UNet that computes the same as a ``UNET`` with this config.

    Raises:
        ValueError: the config lacks a key.
    """
    heads, head_width = found.get("num_heads", -1), found.get("num_head_channels", -1)
    try:
        widths = [times * found["model_channels"] for times in found["channel_mult"]]
        attends = [2**level in found["attention_resolutions"] for level in range(len(widths))]
        kinds = ["CrossAttn{}Block2D" if attention else "{}Block2D" for attention in attends]
        return {
            "sample_size": found["image_size"],
            "in_channels": found["in_channels"],
            "out_channels": found["out_channels"],
            "block_out_channels": widths,
            "layers_per_block": found["num_res_blocks"],
            "down_block_types": [kind.format("Down") for kind in kinds],
            "up_block_types": [kind.format("Up") for kind in reversed(kinds)],
            # diffusers gives this name to the number of heads.
            "attention_head_dim": heads if head_width == -1 else [w // head_width for w in widths],
            "cross_attention_dim": found["context_dim"],
            "transformer_layers_per_block": found.get("transformer_depth", 1),
            "use_linear_projection": True,
            "class_embed_type": "projection",
            "projection_class_embeddings_input_dim": found.get("camera_dim"),
        }
    except KeyError as error:
        raise ValueError(f"its config lacks {error}") from error


def load_unet(
    kind: Any, where: str, found: Mapping[str, Any], variant: str | None, dtype: torch.dtype
) -> Any:
    """Load a published ``UNET``.

    Args:
        kind: diffusers' class of a UNet.
        where: the folder of the model, or its hub id.
        found: the config of the network there.
        variant: the variant of its weights.
        dtype: the precision to convert to.

    Raises:
        ValueError: the weights are not those of this network.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from huggingface_hub import hf_hub_download
    from safetensors.torch import load_file

    name = f"unet/diffusion_pytorch_model{f'.{variant}' if variant else ''}{SAFE}"
    folder = local_folder(where)
    weights = load_file(hf_hub_download(where, name) if folder is None else Path(folder, name))
    config = unet_config(found)
    own = {f"model.diffusion_model.{key}": weight for key, weight in weights.items()}
    layers = {"layers_per_block": config["layers_per_block"]}
    converted: dict[str, Tensor] = convert_ldm_unet_checkpoint(own, layers)
    for old, new in _CAMERA_EMBEDDING.items():
        converted |= {
            key.replace(old, new): weight for key, weight in weights.items() if key.startswith(old)
        }
    with torch.device("meta"):
        unet = kind.from_config(config)
    wanted = {key: weight.shape for key, weight in unet.state_dict().items()}
    placed = {id(weight) for key, weight in converted.items() if key in wanted}
    if spare := [key for key, weight in weights.items() if id(weight) not in placed]:
        raise ValueError(f"{len(spare)} of its weights have no place in it, such as {spare[0]}")
    if lacking := sorted(wanted.keys() - converted.keys()):
        raise ValueError(f"its file lacks {len(lacking)} weights, such as {lacking[0]}")
    for key, shape in wanted.items():
        if (given := converted[key].shape) != shape:
            raise ValueError(f"its {key} is {[*given]}, but its config makes it {[*shape]}")
    unet.load_state_dict(converted, assign=True)
    return unet.to(dtype)
