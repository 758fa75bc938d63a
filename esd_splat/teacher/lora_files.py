"""LoRA files that become part of a teacher. They are fused into its weights when it is loaded."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esd_splat.errors import TeacherError, quoted, reading
from esd_splat.files import expanded
from esd_splat.teacher.families import Family
from esd_splat.teacher.loading import SAFE
from esd_splat.teacher.lora_keys import Keys, Place, find_places, roles
from esd_splat.teacher.peft_settings import Settings, read_settings, stated_strength
from esd_splat.teacher.weight_files import read_header

USUAL_NAME = f"pytorch_lora_weights{SAFE}"
"""Name of the LoRA file in a folder that diffusers saved."""
MOST = 10.0
"""Largest magnitude of a scale. A larger one is probably a mistake, such as 80 for 0.8."""


@dataclass(frozen=True)
class Lora:
    """A LoRA file, and the scale with which it is fused."""

    file: Path
    scale: float

    def fuse(self, family: Family, parts: Mapping[str, Any]) -> str:
        """Add ``scale * alpha / rank * up @ down`` to the weights of each layer in the file.

        Alpha is the layer's own or, without one, that of PEFT's settings. If nothing states it, it
        is the rank.

        Returns:
            One line that says how many layers of which networks were changed.

        Raises:
            TeacherError: the LoRA belongs to another kind of model, or cannot be read.
        """
        layers, settings = self._read()
        try:
            changed = self._fuse(layers, settings, find_places(layers, parts), parts)
        except ValueError as error:
            raise TeacherError(
                f"teacher.lora: {self.file} does not fit {family.name}: {error}{self._made_for()}; "
                "give a LoRA of this model in a layout of docs/teachers.md, or the teacher.model "
                "that it was trained on"
            ) from error
        where = ", ".join(f"{count} layers of the {part}" for part, count in changed.items())
        if not where and self.scale:
            raise TeacherError(
                f"teacher.lora: {self.file} changes nothing: in each layer, up or down is zero; "
                "give one that was trained"
            )
        return f"teacher.lora: {self.file} at {self.scale:g} changed {where or 'nothing'}"

    def check(self) -> None:
        """Check that the file is a LoRA whose weights are all known. Only its header is read.

        Raises:
            TeacherError: the file cannot be read, or is not a LoRA that can be used.
        """
        self._read()

    def _read(self) -> tuple[dict[str, Keys], Settings]:
        header = read_header("teacher.lora", self.file)
        with reading(f"teacher.lora: {self.file}", TeacherError, "is not a LoRA that can be read"):
            try:
                layers = roles(header)
                return layers, read_settings(self.file, layers)
            except ValueError as error:
                raise TeacherError(f"teacher.lora: {self.file} {error}") from error

    @torch.no_grad()
    def _fuse(
        self,
        layers: Mapping[str, Keys],
        settings: Settings,
        found: Mapping[str, Place],
        parts: Mapping[str, Any],
    ) -> Counter[str]:
        """Change the weights, and return the number of changed layers in each network."""
        from safetensors import safe_open

        changed = Counter[str]()
        with safe_open(self.file, framework="pt") as file:
            for layer, (part, rows) in found.items():
                weights = [parts[part].get_parameter(f"{name}.weight")[of] for name, of in rows]
                heights = [len(weight) for weight in weights]
                shape = (sum(heights), *weights[0].shape[1:])
                own = {role: file.get_tensor(key) for role, key in layers[layer].items()}
                delta = _product(own["up"], own["down"], shape, layer)
                rank = len(own["down"])
                strength = (
                    _number(own["alpha"], layer) / rank
                    if "alpha" in own
                    else stated_strength(settings, part, layer, rank)
                )
                delta *= self.scale * strength
                if delta.any():
                    changed[part] += len({name for name, _ in rows})
                for weight, added in zip(weights, delta.split(heights), strict=True):
                    weight += added.to(weight.device)
                    if not weight.isfinite().all():
                        raise ValueError(
                            f"at {self.scale:g} it makes weights of the layer {quoted(layer)} "
                            f"overflow in {weight.dtype}, or is no number itself"
                        )
        return changed

    def _made_for(self) -> str:
        from safetensors import safe_open

        with safe_open(self.file, framework="pt") as file:
            known = file.metadata() or {}
        for name in ("ss_base_model_version", "modelspec.architecture"):
            if name in known:
                return f". It says that it is for {quoted(known[name])}"
        return ""


def split_scale(text: str) -> tuple[str, float]:
    """Return the path and the scale in ``path:scale``. The scale is 1 if it is left out."""
    found = re.fullmatch(r"(.+):([-+]?(?:\d+\.?\d*|\.\d+))", text)
    return (found[1], float(found[2])) if found else (text, 1.0)


def find_lora(text: str) -> Lora:
    """Return the LoRA that ``path`` or ``path:scale`` means, where ``path`` is a file or a folder.

    Raises:
        TeacherError: the path does not exist, or the folder holds no LoRA or several.
    """
    name, scale = split_scale(text)
    path = expanded(name)
    if not path.exists():
        raise TeacherError(
            f"teacher.lora: no file {name!r}; give a {SAFE} file or its folder, and after a colon "
            f"a scale if it is not 1, as in style{SAFE}:0.8"
        )
    if path.is_file():
        return Lora(path, scale)
    files = sorted(path.glob(f"*{SAFE}"))
    usual = [file for file in files if file.name == USUAL_NAME] or files
    if len(usual) != 1:
        count = f"{len(files)} {SAFE} files" if files else f"no {SAFE} file"
        raise TeacherError(f"teacher.lora: {path} has {count}; give the path of one")
    return Lora(usual[0], scale)


def _product(up: Tensor, down: Tensor, shape: tuple[int, ...], layer: str) -> Tensor:
    """Return ``up @ down`` with the shape of the layer's weights.

    A convolution has all of its kernel in ``down``. A linear layer may be stored as a convolution
    with a kernel of one pixel, and the other way around.
    """
    fits = (
        up.is_floating_point()
        and down.is_floating_point()
        and min(up.ndim, down.ndim) > 1
        and up.flatten(1).shape == (shape[0], len(down))
        and _without_ones(down.shape[1:]) == _without_ones(shape[1:])
        and len(down) > 0
    )
    if not fits:
        up_is, down_is = (f"{str(w.dtype)[6:]} {[*w.shape]}" for w in (up, down))
        raise ValueError(
            f"its layer {quoted(layer)} has up {up_is} and down {down_is}, and the model's weights "
            f"have the shape {[*shape]}"
        )
    return (up.float().flatten(1) @ down.float().flatten(1)).view(shape)


def _without_ones(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return sizes[:1] if all(size == 1 for size in sizes[1:]) else sizes


def _number(alpha: Tensor, layer: str) -> float:
    if alpha.numel() != 1 or not alpha.isfinite().all():
        raise ValueError(f"the alpha of its layer {quoted(layer)} is not a number")
    return alpha.item()
