"""The interface of a judge: it tells which side of an object an image shows."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.teacher import Teacher, TeacherConfig
from esd_splat.types import Images

SIDES = ("front", "side", "back")
"""The sides of an object, in the order of a judge's probabilities."""


class Judge(ABC):
    """A model that tells which side of an object an image shows, loaded and ready to use."""

    name: str
    """What the judge is called in tables, such as "teacher" or "vlm" with the id of its model."""
    size: int
    """Width and height in pixels of the images that it works with. Others are resized."""
    note: str = ""
    """What readers of its results should know, in one line without a full stop."""

    def check(self, prompt: str) -> None:  # noqa: B027  some judges know every word
        """Check that ``sides`` can be asked about a prompt. By default, it can be about any.

        Raises:
            PromptError: the judge does not know a word of the prompt, or of the sides.
        """

    @abstractmethod
    def sides(
        self, images: Images, prompt: str, generator: torch.Generator
    ) -> Float[Tensor, "b 3"]:
        """Return the probability of each of ``SIDES`` for each image, on the CPU. Rows sum to 1.

        All sides are equally likely before an image is seen.

        Args:
            images: square images of the object in front of a background, in [0, 1].
            prompt: what they should show, without view words.
            generator: a CPU generator, for a judge that draws noise.

        Raises:
            PromptError: see ``check``.
        """


class JudgeConfig(ABC):
    """The configuration section of a judge. A subclass is a frozen dataclass."""

    @abstractmethod
    def load(self, teacher: Teacher, config: TeacherConfig) -> Judge:
        """Return the judge, which may be made of a teacher, or load weights of its own.

        Args:
            teacher: the teacher of the scenes that will be judged. It must not be changed.
            config: the configuration of that teacher.

        Raises:
            JudgeError: the weights of the judge are missing, damaged, or out of reach.
        """
