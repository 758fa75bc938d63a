"""The part of a run's config that its steps read, and no more."""

from dataclasses import dataclass, fields
from typing import Any

from esd_splat.distill.lora import Lora
from esd_splat.distill.losses import Clamp, Regularise, ScoreDistillation
from esd_splat.distill.pool import Pool
from esd_splat.init import Initialiser
from esd_splat.scene.cameras import Orbit
from esd_splat.scene.densify import Densifier
from esd_splat.scene.optim import Optim
from esd_splat.teacher import Memory, TeacherConfig
from esd_splat.teacher.noise import TimestepRange


@dataclass(frozen=True)
class StepConfig:
    """Each field is the key of that name in ``esd_splat.config.Config``, which explains it."""

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    batch: int
    background: str
    loss: ScoreDistillation
    teacher: TeacherConfig
    memory: Memory
    lora: Lora
    pool: Pool
    clamp: Clamp
    image_loss: float
    latent_warmup: float
    timesteps: TimestepRange
    cameras: Orbit
    optim: Optim
    regularise: Regularise
    densify: Densifier
    init: Initialiser

    @classmethod
    def of(cls, config: Any) -> "StepConfig":
        """Return the fields that a whole ``config`` has of these names."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})
