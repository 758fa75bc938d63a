"""Kinds of models, and which of them a folder holds. To add one: write its file, then its line."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from esd_splat.errors import TeacherError
from esd_splat.teacher import multi_view, sd, sd3, sdxl
from esd_splat.teacher.base import Teacher
from esd_splat.teacher.loading import SAFE
from esd_splat.teacher.memory import Memory

INDEX = "model_index.json"


@dataclass(frozen=True)
class Family:
    """Models whose folders have the same parts."""

    name: str
    pipeline: str
    """The class of diffusers that is made of these parts."""
    build: Callable[[dict[str, Any], torch.device, torch.dtype, Memory], Teacher]
    """Makes a teacher of loaded parts, by name."""
    parts: dict[str, str]
    """Library and class of each part, by the name of its folder."""
    optional: dict[str, str] = field(default_factory=dict)
    """Of parts that a folder may lack."""
    without: dict[str, Any] = field(default_factory=dict)
    """What tells the pipeline to do without parts that we never load."""

    def as_pipeline(self, parts: Mapping[str, Any]) -> Any:
        """The loaded parts, by name, as diffusers' own pipeline."""
        import diffusers

        absent = dict.fromkeys(self.optional.keys() - parts.keys())
        return getattr(diffusers, self.pipeline)(**parts, **absent, **self.without)


SD = Family(
    "Stable Diffusion",
    "StableDiffusionPipeline",
    sd.Sd,
    sd.PARTS,
    without={"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
)
SDXL = Family(
    "Stable Diffusion XL",
    "StableDiffusionXLPipeline",
    sdxl.Sdxl,
    sdxl.PARTS,
    without={"add_watermarker": False},
)
SD3 = Family("Stable Diffusion 3", "StableDiffusion3Pipeline", sd3.Sd3, sd3.PARTS, sd3.OPTIONAL)
MULTI_VIEW = Family(
    "multi-view diffusion",
    SD.pipeline,
    multi_view.MultiView,
    multi_view.PARTS,
    without=SD.without,
)
FAMILIES = {family.pipeline: family for family in (SD, SDXL, SD3)} | {
    "MultiViewPipeline": MULTI_VIEW
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
        return SD3
    return SDXL if (folder / "text_encoder_2").is_dir() else SD


def check_folder(folder: Path) -> None:
    """Refuse a folder that does not hold all parts of a model of ours.

    Raises:
        TeacherError: saying what it seems to be.
    """
    family = family_of(folder)
    missing = [part for part in family.parts if not (folder / part).is_dir()]
    if not missing:
        return
    files = sorted(file.name for file in folder.glob(f"*{SAFE}"))
    if any("lora" in name for name in files):
        advice = "it looks like a LoRA, which is for teacher.lora"
    elif files:
        advice = f"for a model of one file give that file, as teacher.model={folder / files[0]}"
    else:
        advice = "save one with diffusers' save_pretrained"
    raise TeacherError(
        f"teacher.model: {folder} is not a {family.name} folder: it has no "
        f"{', '.join(missing)}; {advice}"
    )


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
