"""A judge without weights: the colours of the balls in ``tests.runs`` are those of the sides."""

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from esd_splat.errors import PromptError
from esd_splat.run.measure.judges import Judge, JudgeConfig
from esd_splat.settings.schema import section
from esd_splat.teacher import Teacher, TeacherConfig
from esd_splat.types import Images

RED, GREEN, BLUE = range(3)


class ByColour(Judge):
    """Red is the front, blue the back, and all else the side. It knows nothing of figurines."""

    name, size, note = "colour blind to shape", 32, ""

    @override
    def check(self, prompt: str) -> None:
        if "unicorn" in prompt:
            raise PromptError("prompt: the judge does not know unicorn")

    @override
    def sides(
        self, images: Images, prompt: str, generator: torch.Generator
    ) -> Float[Tensor, "b 3"]:
        middle = images[:, :, 14:18, 14:18].mean((2, 3))
        side = torch.ones(len(images), dtype=torch.long)
        side[(middle[:, RED] > 0.7) & (middle[:, GREEN] < 0.4)] = 0
        side[(middle[:, BLUE] > 0.7) & (middle[:, GREEN] < 0.4)] = 2
        return torch.eye(3)[side]


@section
class Paint(JudgeConfig):
    """It has a model to choose, and does not use it."""

    model: str

    @override
    def load(self, teacher: Teacher, config: TeacherConfig) -> Judge:
        return ByColour()
