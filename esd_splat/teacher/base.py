"""The interface of a teacher: it embeds texts, encodes images to latents, and predicts noise."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.teacher.memory import Memory
from esd_splat.teacher.noise import alpha_sigma
from esd_splat.teacher.view_prompts import ViewPrompts
from esd_splat.types import Images, Latents, Timesteps

Embeddings = Float[Tensor, "b l d"]
"""Encoded texts, one row per text. Only the teacher knows their layout, but rows can be mixed."""


class Teacher(ABC):
    """A frozen text-to-image diffusion model, loaded and ready to use.

    If the network predicts something other than the noise, the teacher converts its output, so the
    rest of the library only sees noise predictions.
    """

    alphas_cumprod: Float[Tensor, " T"]
    """Square of the signal scale alpha at each training timestep."""
    network: torch.nn.Module
    """The denoising network. The scene's LoRA adds its adapters to it."""
    time_embedding: torch.nn.Module
    """The submodule of ``network`` that embeds timesteps. It ends in a layer ``linear_2``, and the
    scene's LoRA adds a camera embedding to its output."""
    latent_shape: tuple[int, int, int]
    """Channels, height and width of the latents of one image."""
    image_size: int
    """Width and height in pixels of the images that the network was trained on."""
    device: torch.device
    pristine: bool = True
    """Whether the network makes the teacher's own predictions, with no adapter active in it."""
    joint: bool = False
    """Whether the network sees all views of a step together. They then share one timestep."""
    ring: int | None = None
    """The number of views in a step, evenly spaced at one elevation, that the network was trained
    on. ``None`` if it takes any views."""
    notes: tuple[str, ...] = ()
    """What a user should know about the origin of the weights, one line each."""

    def told(self, texts: Embeddings, c2w: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b rows d"]:
        """Return what the network is conditioned on for views of one scene.

        That is their texts, and whatever else the network takes.

        Args:
            texts: embeddings, one row per view.
            c2w: camera-to-world matrices, one per view.
        """
        return texts

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Encode texts, one row each. Each distinct text is encoded once and then cached.

        Raises:
            PromptError: a text is longer than the text encoder accepts.
        """

    def without_picture(self, embeddings: Embeddings) -> Embeddings:
        """Return what ``embed`` returned, as if the prompt had no picture.

        The unconditional half of guidance gets this.
        """
        return embeddings

    @abstractmethod
    def encode(self, images: Images) -> Latents:
        """Return the latents of images in [0, 1].

        They are the mean of the encoder's distribution, scaled to about unit variance, and
        differentiable. Images whose size is not the teacher's are resized.
        """

    @abstractmethod
    def decode(self, latents: Latents) -> Images:
        """Decode latents to images in [0, 1]. Not differentiable."""

    @abstractmethod
    def output(self, noisy: Latents, t: Timesteps, embeddings: Embeddings) -> Latents:
        """Return what the network itself predicts, in float32. See ``target``."""

    @abstractmethod
    def target(self, clean: Latents, noise: Latents, t: Timesteps) -> Latents:
        """Return what ``output`` would be if the network knew ``clean`` and ``noise``."""

    @abstractmethod
    def eps(self, noisy: Latents, t: Timesteps, embeddings: Embeddings) -> Latents:
        """Return the noise prediction, whatever the network itself predicts."""

    def in_float32(self) -> AbstractContextManager[None]:
        """Make the network compute in float32 within a ``with`` block, if it does not do so."""
        return nullcontext()

    def offset(self, noisy: Latents, t: Timesteps) -> Latents:
        """Return the part of ``eps`` that is not the network's: ``eps`` if its output were zero."""
        return torch.zeros_like(noisy)

    def slope(self, t: Timesteps) -> Float[Tensor, "b 1 1 1"]:
        """Return the factor of the network's output in ``eps``, which is ``offset`` plus that."""
        return torch.ones_like(alpha_sigma(self.alphas_cumprod, t)[0])

    def predict_clean(self, noisy: Latents, eps: Latents, t: Timesteps) -> Latents:
        """Return the clean latents that ``eps`` implies: ``(noisy - sigma eps) / alpha``."""
        a, s = alpha_sigma(self.alphas_cumprod, t)
        return (noisy - s * eps) / a


class TeacherConfig(ABC):
    """The configuration section of a teacher. A subclass is a frozen dataclass."""

    guidance_scale: float
    guidance_rescale: float
    views: ViewPrompts
    embedded: ClassVar[str] = "figurines"
    """The name of the model that ships with the package."""

    @property
    @abstractmethod
    def vocabulary(self) -> dict[str, Any] | None:
        """What the model was trained on, or ``None`` for a model that is not limited to figurines.

        It holds the ``words`` that the model knows, and the ``kinds`` and ``colours`` of figurines.
        """

    @abstractmethod
    def check(self, prompts: Mapping[str, str]) -> None:
        """Check the settings and the prompts before any weight is loaded.

        Args:
            prompts: the texts that the model will get. The keys are those that a user would have
                to change.

        Raises:
            TeacherError: the model folder does not exist, or does not hold a model of this kind.
            PromptError: the model has a vocabulary, and a prompt has words outside it.
        """

    @abstractmethod
    def load(
        self, device: torch.device, dtype: torch.dtype, memory: Memory | None = None
    ) -> Teacher:
        """Load the teacher with its weights on ``device`` in ``dtype``, except as ``memory`` says.

        Raises:
            TeacherError: weights are missing, truncated, of another model, or out of reach.
        """
