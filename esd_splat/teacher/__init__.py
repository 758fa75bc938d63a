"""Diffusion teachers. To add one: write its file, then add its line here."""

from esd_splat.teacher.base import Teacher, TeacherConfig, guide
from esd_splat.teacher.particle import AttachedParticle, Particle
from esd_splat.teacher.stable_diffusion import StableDiffusion

TEACHERS: dict[str, type[TeacherConfig]] = {
    "stable_diffusion": StableDiffusion,
}

__all__ = [
    "TEACHERS",
    "AttachedParticle",
    "Particle",
    "StableDiffusion",
    "Teacher",
    "TeacherConfig",
    "guide",
]
