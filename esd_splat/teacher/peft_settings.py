"""What PEFT states of a LoRA besides its weights: its kind, and the alpha of its layers."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from esd_splat.errors import quoted

Settings = Mapping[str, Any]
"""The fields of PEFT's ``LoraConfig``. Those of one network may begin with its name and a dot."""
CONFIG = "adapter_config.json"
"""The file in which PEFT writes them, beside the weights."""
OWN_START = "base_model.model."
"""The start of the names of weights in PEFT's own layout."""
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to initialize a LoRA that leave the weights of the model as they are."""


def read_settings(file: Path, layers: Iterable[str]) -> Settings:
    """Return the settings that diffusers writes into a file, or PEFT beside its own layout.

    Raises:
        ValueError: they are missing, cannot be read, or state another kind than a plain LoRA. The
            message follows the name of the file.
    """
    with safe_open(file, framework="pt") as weights:
        text, place = (weights.metadata() or {}).get("lora_adapter_metadata"), "its metadata"
    if text is None and any(layer.startswith(OWN_START) for layer in layers):
        place = str(file.with_name(CONFIG))
        try:
            text = file.with_name(CONFIG).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"is in PEFT's own layout ({OWN_START}), whose alpha is in {CONFIG}, and {place} "
                f"cannot be read ({type(error).__name__}); put it beside the file"
            ) from error
    try:
        found = json.loads(text or "{}")
        stated = [(key.rpartition(".")[2], value) for key, value in found.items()]
        if place != "its metadata":
            float(found["lora_alpha"])
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"has no readable lora_alpha in {place}, where PEFT writes it; save it again with PEFT"
        ) from error
    for name, value in stated:
        if name == "peft_type" and value != "LORA":
            kind = quoted(str(value))
            raise ValueError(f"is a {kind} of PEFT, which is not read; give a plain LoRA")
        if name == "use_dora" and value:
            raise ValueError("is a DoRA in PEFT's layout, which is not read; give a plain LoRA")
        if name == "init_lora_weights" and value not in _PLAIN_STARTS:
            raise ValueError(
                f"was trained beside changed weights of the model (init_lora_weights is "
                f"{quoted(str(value))}); convert it to a plain LoRA with PEFT's save_pretrained"
            )
    return found


def stated_strength(settings: Settings, part: str, layer: str, rank: int) -> float:
    """Return what PEFT would multiply a layer's pair by: alpha / rank, or 1 if no alpha is stated.

    Args:
        settings: what ``read_settings`` returned.
        part: the network that the layer is in.
        layer: the layer's name in the file, of which a pattern may be the end.
        rank: the rank of its pair.

    Raises:
        ValueError: an alpha is no number, or a pattern no pattern.
    """

    def setting(name: str) -> Any:
        return settings.get(f"{part}.{name}", settings.get(name))

    alpha, patterns = setting("lora_alpha"), setting("alpha_pattern") or {}
    try:
        fits = (own for end, own in patterns.items() if re.match(rf"(.*\.)?({end})$", layer))
        alpha = next(fits, alpha)
        if alpha is None:
            return 1.0
        return float(alpha) / (math.sqrt(rank) if setting("use_rslora") else rank)
    except (AttributeError, TypeError, ValueError, re.error) as error:
        raise ValueError(
            f"PEFT's settings state no alpha that can be read for the layer {quoted(layer)}"
        ) from error
