"""The teacher itself as a judge: which view word explains a noised image best.

This is the diffusion classifier of Li et al. (arXiv:2303.16203). It needs no weights but those of
the teacher, and works for every family of models.
"""

from dataclasses import replace
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from esd_splat.errors import refuse
from esd_splat.run.measure.judges.base import SIDES, Judge, JudgeConfig
from esd_splat.scene.cameras import Orbit
from esd_splat.settings.schema import Field, section
from esd_splat.teacher import Teacher, TeacherConfig
from esd_splat.teacher.noise import add_noise
from esd_splat.types import Images

AT_ONCE = 2
"""Images that pass through the network together, each with all texts."""

Told = Float[Tensor, "3 rows d"]
"""What a network is told for each of ``SIDES``."""
Level = Annotated[float, Field(gt=0, lt=1)]


@section
class TeacherJudge(JudgeConfig):
    """The teacher of the run tells which of its view words fits each image.

    The defaults were chosen on traced pictures of figurines with the embedded teacher. There, the
    side of an object is decided at high noise: levels below 0.6 hardly help.
    """

    levels: tuple[Level, ...] = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    """Timesteps at which images are noised, as fractions of the teacher's T. All count alike."""
    draws: int = Field(default=2, ge=1, le=100)
    """Number of noises for each image at each level."""

    def __post_init__(self) -> None:
        if len(self.levels) * self.draws < 2:
            refuse(["levels: must give at least 2 noises for each image, together with draws"])

    @property
    def passes(self) -> int:
        """How many images pass through the network for each image that is judged."""
        return len(SIDES) * len(self.levels) * self.draws

    @override
    def load(self, teacher: Teacher, config: TeacherConfig) -> Judge:
        return _Classifier(self, teacher, config)


class _Classifier(Judge):
    name = "teacher"

    def __init__(self, settings: TeacherJudge, teacher: Teacher, config: TeacherConfig) -> None:
        self.settings, self.teacher, self.config = settings, teacher, config
        self.size = teacher.image_size
        if teacher.joint:
            self.note = "a multi-view teacher, which sees each view alone, from the same camera"

    @override
    def check(self, prompt: str) -> None:
        self._told(prompt)

    @override
    @torch.no_grad()
    def sides(
        self, images: Images, prompt: str, generator: torch.Generator
    ) -> Float[Tensor, "b 3"]:
        told = self._told(prompt)
        parts = [self._errors(some, told, generator) for some in images.split(AT_ONCE)]
        return side_probabilities(torch.cat(parts).cpu())

    def _told(self, prompt: str) -> Told:
        """Return what the network is told for each of ``SIDES``.

        A multi-view teacher sees each image alone, and is told the same camera for all sides, so
        that only the words differ. They name the side, whereas its cameras have no fixed front.
        A picture is withheld, as it shows a side of its own.
        """
        views = replace(self.config.views, enabled=True)
        texts = views.texts(prompt, highest=views.overhead)[: len(SIDES)]
        keys = [f"judge ({side} view)" for side in SIDES]
        self.config.check(dict(zip(keys, texts, strict=True)))
        zero = torch.zeros(1, dtype=torch.float64)
        camera = Orbit().at(zero, zero, self.size).to(self.teacher.device).c2w.float()
        words = self.teacher.without_picture(self.teacher.embed(texts)).split(1)
        return torch.cat([self.teacher.told(one, camera) for one in words])

    def _errors(
        self, images: Images, told: Told, generator: torch.Generator
    ) -> Float[Tensor, "b noises 3"]:
        """Return the squared error of the noise prediction. All sides share their noises."""
        teacher, count = self.teacher, len(images)
        clean = teacher.encode(images.float().to(teacher.device)).repeat(len(SIDES), 1, 1, 1)
        texts = told.repeat_interleave(count, dim=0)
        errors = []
        for level in self.settings.levels:
            for _ in range(self.settings.draws):
                drawn = torch.randn(count, *clean.shape[1:], generator=generator)
                noise = drawn.to(clean).repeat(len(SIDES), 1, 1, 1)
                step = int(level * len(teacher.alphas_cumprod))
                t = torch.full((len(clean),), step, device=clean.device)
                noisy = add_noise(clean, noise, teacher.alphas_cumprod, t)
                off = teacher.eps(noisy, t, texts) - noise
                errors.append(off.square().sum((1, 2, 3)).view(len(SIDES), count).T)
        return torch.stack(errors, dim=1)


def side_probabilities(errors: Float[Tensor, "b noises 3"]) -> Float[Tensor, "b 3"]:
    """Return the probability of each side from the errors of the predictions that assume it.

    For each noise, the errors are divided by their mean over the sides, so that all levels count
    alike. A side's logarithm is its mean over the noises, times -1, in units of its standard error.
    In these units a teacher that pays no attention to view words is never sure of one.

    All sides are equally likely a priori. How often the teacher draws each of them unasked does
    not count, as only predictions for texts with view words are compared.

    Args:
        errors: squared errors, above 0, for at least 2 noises.
    """
    relative = errors.double() / errors.double().mean(-1, keepdim=True)
    apart = relative - 1
    mean = apart.mean(1)
    noises, sides = errors.shape[1:]
    spread = (apart - mean[:, None]).square().sum((1, 2), keepdim=True) / (
        (noises - 1) * (sides - 1)
    )
    # Without any spread, the sides do not differ, and the quotient is zero.
    standard_error = (spread[:, 0] / noises).sqrt().clamp(min=torch.finfo(torch.double).tiny)
    return (-mean / standard_error).softmax(1).float()
