"""What a teacher is to the rest of the library: words in, images to latents, noise predictions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.teacher.memory import Memory
from esd_splat.teacher.noise import alpha_sigma
from esd_splat.teacher.view_prompts import ViewPrompts
from esd_splat.types import Images, Latents, Timesteps

Embeddings = Float[Tensor, "b l d"]
"""Encoded texts, one row each. Only their teacher knows what is in them; they can be mixed."""


class Teacher(ABC):
    """A frozen text-to-image diffusion model, ready to be asked.

    Networks that predict something else than the noise are converted in here, at the border.
    """

    alphas_cumprod: Float[Tensor, " T"]
    """Squared signal scale at each training timestep."""
    network: torch.nn.Module
    """The predictor. A LoRA may hang its adapters into it."""
    time_embedding: torch.nn.Module
    """The part of it that embeds timesteps, ending in a ``linear_2``: a LoRA adds cameras."""
    latent_shape: tuple[int, int, int]
    """Of one picture: channels, height, width."""
    device: torch.device
    joint: bool = False
    """Whether it looks at the views of a step together: they then are at one timestep."""
    notes: tuple[str, ...] = ()
    """What a user should know of where its weights come from, a line each."""

    def told(self, texts: Embeddings, c2w: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b rows d"]:
        """What the network is told of views of one scene: their texts, and what else it takes.

        Args:
            texts: one for each view.
            c2w: camera-to-world, likewise.
        """
        return texts

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Encode texts, one row each; each distinct text is encoded once and remembered.

        Raises:
            PromptError: one is longer than the text encoder takes.
        """

    @abstractmethod
    def encode(self, images: Images) -> Latents:
        """Latents of images in [0, 1]: the mean, scaled to about unit variance. Differentiable.

        Images of another size than the teacher's are resized to it.
        """

    @abstractmethod
    def decode(self, latents: Latents) -> Images:
        """Images in [0, 1] of latents; not differentiable."""

    @abstractmethod
    def output(self, noisy: Latents, t: Timesteps, embeddings: Embeddings) -> Latents:
        """What the network itself predicts, in float32; see ``target``."""

    @abstractmethod
    def target(self, clean: Latents, noise: Latents, t: Timesteps) -> Latents:
        """What ``output`` would be for a network that knew ``clean`` and ``noise``."""

    @abstractmethod
    def eps(self, noisy: Latents, t: Timesteps, embeddings: Embeddings) -> Latents:
        """The noise prediction, whatever the network predicts."""

    def offset(self, noisy: Latents, t: Timesteps) -> Latents:
        """What of ``eps`` the network does not predict itself: ``eps`` where it returns zeros."""
        return torch.zeros_like(noisy)

    def predict_clean(self, noisy: Latents, eps: Latents, t: Timesteps) -> Latents:
        """The clean latents that ``eps`` implies: ``(noisy - sigma eps) / alpha``."""
        a, s = alpha_sigma(self.alphas_cumprod, t)
        return (noisy - s * eps) / a


class TeacherConfig(ABC):
    """A teacher's section of the configuration. A subclass is a frozen dataclass."""

    guidance_scale: float
    guidance_rescale: float
    views: ViewPrompts
    embedded: ClassVar[str] = "figurines"
    """The name of the model that ships with the package."""

    @property
    @abstractmethod
    def vocabulary(self) -> dict[str, Any] | None:
        """What is known of the model's world, or ``None`` for a model not limited to figurines.

        ``words`` it was trained on, and ``kinds`` and ``colours`` of figurines.
        """

    @abstractmethod
    def check(self, prompts: Mapping[str, str]) -> None:
        """Refuse, before any weight is loaded, what the model cannot do.

        Args:
            prompts: what it will be told, by the key that a user would have to change.

        Raises:
            TeacherError: no such model folder, or not one of this kind.
            PromptError: the model has a vocabulary, and a prompt has words outside it.
        """

    @abstractmethod
    def load(
        self, device: torch.device, dtype: torch.dtype, memory: Memory | None = None
    ) -> Teacher:
        """The teacher, its weights on ``device`` in ``dtype``, but for what ``memory`` says.

        Raises:
            TeacherError: weights that are missing, cut short, foreign, or out of reach.
        """
