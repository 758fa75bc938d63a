"""The families of models, and which of them a folder holds.

To add one, write its file and add it to ``FAMILIES``.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from esd_splat.errors import TeacherError, one_line, reading
from esd_splat.teacher import multi_view, mvdream, sd, sd3, sdxl
from esd_splat.teacher.base import Teacher
from esd_splat.teacher.loading import SAFE
from esd_splat.teacher.memory import Memory

INDEX = "model_index.json"


@dataclass(frozen=True)
class Family:
    """A family of models whose folders have the same parts."""

    name: str
    pipeline: str
    """The diffusers pipeline class that is made of these parts."""
    build: Callable[[dict[str, Any], torch.device, torch.dtype, Memory], Teacher]
    """Builds a teacher from the loaded parts, given by name."""
    parts: dict[str, str]
    """The library and class of each part, by the name of its folder."""
    optional: dict[str, str] = field(default_factory=dict)
    """The same for the parts that a folder may lack."""
    without: dict[str, Any] = field(default_factory=dict)
    """Arguments that tell the pipeline to do without the parts that we never load."""
    ip_adapter: str | None = None
    """The usual IP-Adapter: its path in ``ip_adapter.AUTHORS``. None if the family takes none."""

    def as_pipeline(self, parts: Mapping[str, Any]) -> Any:
        """Return diffusers' own pipeline made of the loaded parts, which are given by name."""
        import diffusers

        absent = dict.fromkeys(self.optional.keys() - parts.keys())
        return getattr(diffusers, self.pipeline)(**parts, **absent, **self.without)


SD = Family(
    "Stable Diffusion",
    "StableDiffusionPipeline",
    sd.Sd,
    sd.PARTS,
    without={"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    ip_adapter="models/ip-adapter_sd15.safetensors",
)
SDXL = Family(
    "Stable Diffusion XL",
    "StableDiffusionXLPipeline",
    sdxl.Sdxl,
    sdxl.PARTS,
    without={"add_watermarker": False},
    ip_adapter="sdxl_models/ip-adapter_sdxl.safetensors",
)
SD3 = Family("Stable Diffusion 3", "StableDiffusion3Pipeline", sd3.Sd3, sd3.PARTS, sd3.OPTIONAL)
MULTI_VIEW = Family(
    "multi-view diffusion",
    SD.pipeline,
    multi_view.MultiView,
    multi_view.PARTS,
    without=SD.without,
)
MVDREAM = replace(MULTI_VIEW, name="MVDream", build=mvdream.MvDream)
FAMILIES = {family.pipeline: family for family in (SD, SDXL, SD3)} | {
    "MultiViewPipeline": MULTI_VIEW,
    "MVDreamPipeline": MVDREAM,
}
"""The families by the name of the pipeline in a model's ``model_index.json``."""


def family_of(folder: Path) -> Family:
    """Return the family that the index of a model folder names or, without one, its parts suggest.

    Raises:
        TeacherError: the index cannot be read, or its pipeline is not supported.
    """
    index = folder / INDEX
    if index.exists():
        return family_by_index(index)
    if (folder / "transformer").is_dir():
        return SD3
    unet = folder / "unet" / "config.json"
    if unet.exists() and mvdream.UNET in unet.read_text(encoding="utf-8"):
        return MVDREAM
    return SDXL if (folder / "text_encoder_2").is_dir() else SD


def check_folder(folder: Path) -> None:
    """Check that a folder holds all parts of a supported model.

    Raises:
        TeacherError: parts are missing. The message says what the folder seems to be.
    """
    family = family_of(folder)
    missing = [part for part in family.parts if not (folder / part).is_dir()]
    if not missing:
        return
    files = sorted(file.name for file in folder.glob(f"*{SAFE}"))
    if snapshots := sorted(folder.glob("snapshots/*/")):
        advice = f"it is a model in the hub's cache: give {snapshots[-1]}"
    elif any("lora" in name for name in files):
        advice = "it looks like a LoRA, which belongs in teacher.lora"
    elif files:
        advice = f"for a single-file checkpoint, give its path: teacher.model={folder / files[0]}"
    else:
        advice = "save one with diffusers' save_pretrained"
    raise TeacherError(
        f"teacher.model: {folder} is not a {family.name} folder: it has no "
        f"{', '.join(missing)}; {advice}"
    )


def family_by_index(index: Path) -> Family:
    """Return the family that a ``model_index.json`` names."""
    with reading(f"teacher.model: {index}", TeacherError, "names no pipeline"):
        found = json.loads(index.read_text(encoding="utf-8"))
        name, pictured = found["_class_name"], any(found.get("image_encoder") or ())
        name = str(name[-1] if isinstance(name, list) else name)  # of a file and its class
    if name not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise TeacherError(
            f"teacher.model: {index.parent} is a {one_line(name)}; supported are {known}"
        )
    if FAMILIES[name] is MVDREAM and pictured:
        raise TeacherError(
            f"teacher.model: {index.parent} is ImageDream, which needs a picture of the object; "
            "MVDream takes a prompt alone: teacher.model=ashawkey/mvdream-sd2.1-diffusers"
        )
    return FAMILIES[name]
