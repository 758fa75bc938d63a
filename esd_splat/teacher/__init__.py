"""Diffusion models that serve as teachers. To add one, write its file and add a line here."""

from esd_splat.plugins import with_installed
from esd_splat.teacher.base import Embeddings, Teacher, TeacherConfig
from esd_splat.teacher.linear_encoder import LinearEncoder
from esd_splat.teacher.memory import Memory
from esd_splat.teacher.stable_diffusion import StableDiffusion

TEACHERS: dict[str, type[TeacherConfig]] = with_installed(
    "teachers",
    {
        "stable_diffusion": StableDiffusion,
    },
)

__all__ = [
    "TEACHERS",
    "Embeddings",
    "LinearEncoder",
    "Memory",
    "StableDiffusion",
    "Teacher",
    "TeacherConfig",
]
