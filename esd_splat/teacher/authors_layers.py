"""The names that the models' authors gave to the layers of their denoising networks.

Single-file checkpoints use these names, and so do many LoRAs.
"""

import re
from collections.abc import Mapping, Sequence

from torch import nn

Rows = tuple[str, slice]
"""A layer in diffusers' layout, and which rows of its weights are meant."""
ALL = slice(None)

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding.linear_1": "camera_embed.0",
    "class_embedding.linear_2": "camera_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
SD3 = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "transformer_blocks": "joint_blocks",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "attn.to_out.0": "x_block.attn.proj",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
SD3_QKV = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
"""Queries, keys and values share one layer in the authors' layout, in this order."""


def authors_layers(network: nn.Module) -> dict[str, list[Rows]]:
    """Return where the rows of each layer of the authors' layout are in diffusers' layout.

    Args:
        network: a UNet of Stable Diffusion 1, 2 or XL, or the transformer of Stable Diffusion 3.
    """
    layers = [n for n, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    if not hasattr(network, "mid_block"):
        return _sd3_layers(network, layers)
    steps = len(network.down_blocks[0].resnets) + 1  # pyright: ignore
    attends = [hasattr(block, "attentions") for block in network.up_blocks]  # pyright: ignore
    return {unet_name(layer, steps, attends): [(layer, ALL)] for layer in layers}


def unet_name(layer: str, steps: int, attends: Sequence[bool]) -> str:
    """Return the authors' name of a UNet's layer.

    The authors number all blocks in one sequence, on the way down including the downsamplers.

    Args:
        layer: a name in diffusers' layout, with or without ``.weight`` or ``.bias``.
        steps: how many of the authors' blocks make one of diffusers': its resnets, and one more.
        attends: for each block on the way up, whether it has attention.
    """
    for start, name in UNET_ENDS.items():
        if f"{layer}.".startswith(f"{start}."):
            return name + layer.removeprefix(start)
    if match := re.match(r"mid_block\.(\w+)\.(\d+)\.(.*)", layer):
        slot = 1 if match[1] == "attentions" else 2 * int(match[2])
        place, kind, rest = f"middle_block.{slot}", match[1], match[3]
    elif match := re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", layer):
        block, kind, index, rest = int(match[2]), match[3], int(match[4]), match[5]
        if kind == "downsamplers":
            return f"input_blocks.{(block + 1) * steps}.0.op{rest.removeprefix('conv')}"
        if kind == "upsamplers":
            return f"output_blocks.{block * steps + steps - 1}.{1 + attends[block]}.{rest}"
        at = block * steps + index
        side = f"input_blocks.{at + 1}" if match[1] == "down" else f"output_blocks.{at}"
        place = f"{side}.{int(kind == 'attentions')}"
    else:
        return layer
    return f"{place}.{renamed(rest, RESNET) if kind == 'resnets' else rest}"


def renamed(name: str, table: Mapping[str, str]) -> str:
    """Replace each key of ``table`` that is a whole piece of a dotted name."""
    for old, new in table.items():
        name = re.sub(rf"(^|\.){re.escape(old)}(?=\.|$)", rf"\g<1>{new}", name)
    return name


def _sd3_layers(network: nn.Module, layers: Sequence[str]) -> dict[str, list[Rows]]:
    found: dict[str, list[Rows]] = {renamed(layer, SD3): [(layer, ALL)] for layer in layers}
    for layer in layers:
        for name, (first, *others) in SD3_QKV.items():
            if layer.endswith(f".{first}"):
                block = layer.removesuffix(first)
                three = [(block + each, ALL) for each in (first, *others)]
                found[renamed(block, SD3) + name] = three
    # The last modulations are stored as shift and scale, not as scale and shift.
    last = sum(1 for name in found if name.endswith(".context_block.adaLN_modulation.1")) - 1
    for name in (
        f"joint_blocks.{last}.context_block.adaLN_modulation.1",
        "final_layer.adaLN_modulation.1",
    ):
        layer = found[name][0][0]
        half = len(network.get_parameter(f"{layer}.weight")) // 2
        found[name] = [(layer, slice(half, None)), (layer, slice(half))]
    return found
