"""The names of the weights in LoRA files, in all layouts: the layer that each belongs to."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from esd_splat.errors import quoted
from esd_splat.teacher.authors_layers import ALL, Rows, authors_layers

Keys = dict[str, str]
"""The keys of the weights of one layer by their role: ``up``, ``down`` and perhaps ``alpha``."""
Place = tuple[str, list[Rows]]
"""A network of a model by the name of its folder, and the layers or rows of layers in it."""

_KINDS = (
    (r"\.hada_", "a LoHa of LyCORIS"),
    (r"\.lokr_", "a LoKr of LyCORIS"),
    (r"[._]lora[._]mid\b", "a LoCon of LyCORIS with a mid layer (CP decomposition)"),
    (r"\.dora_scale$", "a DoRA in kohya's layout"),
    (r"\.lora_magnitude_vector\b", "a DoRA in PEFT's layout"),
    (r"\.oft_|\.boft_", "an OFT"),
    (r"\.on_input$|\.ia3_l\b", "an (IA)^3"),
    (r"\.[ab][12]\.weight$", "a GLoRA of LyCORIS"),
    (r"\.(diff|diff_b|w_norm|b_norm)$", "a file of whole differences of weights, not of pairs"),
    (r"\.lora_embedding_[AB]\b", "a LoRA of token embeddings"),
    (r"^bundle_emb\.", "a LoRA of OneTrainer with embeddings of new tokens (bundle_emb) beside it"),
    (r"^(emb_params$|string_to_param)", "an embedding of new tokens (textual inversion)"),
    (r"^lora_controlnet$", "a ControlNet in the form of a LoRA"),
    (r"^(unet|text_encoder):\d+:(up|down)$", "a LoRA of cloneofsimo, whose layers are numbered"),
)
"""Kinds of files that are not read, by the pattern of keys that tells each. The first counts."""
_ROLE = re.compile(
    r"(?P<layer>.+?)(?:"
    r"[._]lora(?:_linear_layer)?[._](?P<end>down|up|A|B)(?:(?:\.[^.]+)?\.weight)?"
    r"|(?:[._]lora)?\.(?:lora_)?alpha)",
    re.DOTALL,
)
"""A weight of a LoRA. PEFT may put the name of an adapter before the last word."""
_UP = {"B": "up", "A": "down"}
_WRAPPERS = re.compile(
    r"(?:^|(?<=_))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module"
    r"|base_model_model|base_layer|processor)_"
)
"""What torch.compile, FSDP, checkpointing, DDP, PEFT and old versions of diffusers add to names."""
_NETWORK = ("", "lora_unet_", "lycoris_", "diffusion_model_", "model_diffusion_model_")
_PREFIXES = {
    "unet": ("unet_", *_NETWORK),
    "transformer": ("transformer_", "lora_transformer_", *_NETWORK),
    "text_encoder": ("text_encoder_", "lora_te_", "lora_te1_", "text_encoders_clip_l_transformer_"),
    "text_encoder_2": ("text_encoder_2_", "lora_te2_", "text_encoders_clip_g_transformer_"),
    "text_encoder_3": ("text_encoder_3_", "lora_te3_", "text_encoders_t5xxl_transformer_"),
}
"""What stands before the names of a network's layers, when dots are written as underscores."""
_OLD_NAMES = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
"""What old versions of diffusers called the projections of a text encoder's attention."""


def roles(keys: Iterable[str]) -> dict[str, Keys]:
    """Return the keys of each layer of a LoRA. Layers are named as in the file.

    Raises:
        ValueError: the file is no LoRA or one of another kind, a pair is not whole, or a key has no
            meaning. The message says which, and follows the name of the file.
    """
    keys, found, strange = list(keys), dict[str, Keys](), list[str]()
    for mark, kind in _KINDS:
        if key := next((key for key in keys if re.search(mark, key)), None):
            raise ValueError(
                f"is {kind}, which is not read: it has weights such as {quoted(key)}; give a plain "
                "LoRA"
            )
    names: dict[str, str] = {}
    for key in keys:
        if (match := _ROLE.fullmatch(key)) is None:
            strange.append(key)
            continue
        layer = names.setdefault(_flat(match["layer"]), match["layer"])
        role = _UP.get(match["end"], match["end"]) or "alpha"
        first = found.setdefault(layer, {}).setdefault(role, key)
        if first != key:
            raise ValueError(
                f"has two weights for one place, {quoted(first)} and {quoted(key)}; give a file "
                "with one LoRA"
            )
    if not any(len(each.keys() & {"up", "down"}) for each in found.values()):
        example = f"it has weights such as {quoted(strange[0])}" if strange else "it has no weights"
        raise ValueError(f"is not a LoRA: {example}; a whole model belongs in teacher.model")
    if strange:
        raise ValueError(
            f"has {_count(strange, 'weight')} that {'is' if len(strange) == 1 else 'are'} no part "
            f"of a LoRA that is read, such as {quoted(strange[0])}; give a plain LoRA"
        )
    for layer, each in found.items():
        for role, letter in (("up", "B"), ("down", "A")):
            if role not in each:
                (key, *_) = each.values()
                raise ValueError(
                    f"lacks the {role} (lora_{letter}) of the layer {quoted(layer)}, of which it "
                    f"has {quoted(key)}; give the whole LoRA"
                )
    return found


def find_places(layers: Iterable[str], parts: Mapping[str, Any]) -> dict[str, Place]:
    """Return the place of each layer of a LoRA, which is named as in the file.

    Raises:
        ValueError: layers are not in the model, or one is there twice, under two names.
    """
    layers, known = list(layers), _places(parts)
    if foreign := [layer for layer in layers if _flat(layer) not in known]:
        raise ValueError(
            f"{len(foreign)} of its {len(layers)} layers are not in this model, such as "
            f"{quoted(foreign[0])}"
        )
    found = {layer: known[_flat(layer)] for layer in layers}
    firsts: dict[tuple[str, str, int | None], str] = {}
    for layer, (part, rows) in found.items():
        for name, of in rows:
            if (first := firsts.setdefault((part, name, of.start), layer)) != layer:
                raise ValueError(
                    f"it has one layer of this model twice, as {quoted(first)} and {quoted(layer)}"
                )
    return found


def _places(parts: Mapping[str, Any]) -> dict[str, Place]:
    """Return the places of a model's layers by all names that LoRAs give them, as ``_flat``."""
    found: dict[str, Place] = {}
    for part, network in parts.items():
        if part not in _PREFIXES or not isinstance(network, nn.Module):
            continue
        # In a model with one text encoder, its layers need no prefix.
        alone = part == "text_encoder" and "text_encoder_2" not in parts
        prefixes = _PREFIXES[part] + (("",) if alone else ())
        for name, rows in _names(part, network).items():
            for prefix in prefixes:
                found[prefix + _flat(name)] = (part, rows)
    return found


def _names(part: str, network: nn.Module) -> dict[str, list[Rows]]:
    layers = [n for n, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    if part.startswith("text_encoder"):
        found = {}
        for layer in layers:
            bare = layer.removeprefix("text_model.")
            start, _, last = bare.rpartition(".")
            for name in (bare, f"{start}.{_OLD_NAMES.get(last, last)}"):
                found |= {name: [(layer, ALL)], f"text_model.{name}": [(layer, ALL)]}
        return found
    found = authors_layers(network)
    for layer in layers:
        found[layer] = found[re.sub(r"\bto_out\.0$", "to_out", layer)] = [(layer, ALL)]
    return found


def _flat(layer: str) -> str:
    """Return the name without wrappers, with dots as underscores, as kohya writes all of them."""
    return _WRAPPERS.sub("", layer.replace(".", "_"))


def _count(things: list[str], noun: str) -> str:
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"
