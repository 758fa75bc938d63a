"""Diffusion teachers. To add one: write its file, then add its line here."""

from esd_splat.teacher.base import Embeddings, Teacher, TeacherConfig
from esd_splat.teacher.guidance import Branch, Guidance, guide, perp_neg
from esd_splat.teacher.linear import LinearEncoder
from esd_splat.teacher.memory import Memory
from esd_splat.teacher.particle import AttachedParticle, Particle
from esd_splat.teacher.stable_diffusion import StableDiffusion

TEACHERS: dict[str, type[TeacherConfig]] = {
    "stable_diffusion": StableDiffusion,
}

__all__ = [
    "TEACHERS",
    "AttachedParticle",
    "Branch",
    "Embeddings",
    "Guidance",
    "LinearEncoder",
    "Memory",
    "Particle",
    "StableDiffusion",
    "Teacher",
    "TeacherConfig",
    "guide",
    "perp_neg",
]
