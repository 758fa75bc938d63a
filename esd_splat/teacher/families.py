"""Kinds of models, and which of them a folder holds. To add one: write its file, then its line."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from esd_splat.errors import TeacherError
from esd_splat.teacher import multi_view, sd, sd3, sdxl
from esd_splat.teacher.base import Teacher

INDEX = "model_index.json"


@dataclass(frozen=True)
class Family:
    """Models whose folders have the same parts."""

    name: str
    build: Callable[[dict[str, Any], torch.device, torch.dtype], Teacher]
    """Makes a teacher of loaded parts, by name."""
    parts: dict[str, str]
    """Library and class of each part, by the name of its folder."""
    optional: dict[str, str] = field(default_factory=dict)
    """Of parts that a folder may lack."""


FAMILIES = {
    "StableDiffusionPipeline": Family("Stable Diffusion", sd.Sd, sd.PARTS),
    "StableDiffusionXLPipeline": Family("Stable Diffusion XL", sdxl.Sdxl, sdxl.PARTS),
    "StableDiffusion3Pipeline": Family("Stable Diffusion 3", sd3.Sd3, sd3.PARTS, sd3.OPTIONAL),
    "MultiViewPipeline": Family("multi-view diffusion", multi_view.MultiView, multi_view.PARTS),
}
"""By the pipeline that diffusers names in a model's index."""


def family_of(folder: Path) -> Family:
    """The family of a model folder: as its index says, or, without one, by its parts.

    Raises:
        TeacherError: of a pipeline that is none of ours, or an index that cannot be read.
    """
    index = folder / INDEX
    if index.exists():
        return family_by_index(index)
    if (folder / "transformer").is_dir():
        return FAMILIES["StableDiffusion3Pipeline"]
    two = (folder / "text_encoder_2").is_dir()
    return FAMILIES["StableDiffusionXLPipeline" if two else "StableDiffusionPipeline"]


def family_by_index(index: Path) -> Family:
    """The family that a ``model_index.json`` names."""
    try:
        name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TeacherError(f"teacher.model: {index} names no pipeline ({error})") from error
    if name not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise TeacherError(f"teacher.model: {index.parent} is a {name}; understood are {known}")
    return FAMILIES[name]
