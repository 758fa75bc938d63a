"""Teachers without values are called like those with values."""

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from esd_splat.errors import TeacherError
from esd_splat.plan.tracker import Tracker
from esd_splat.teacher import TeacherConfig
from esd_splat.teacher.memory import Memory
from esd_splat.teacher.outline import KNOWN, outline
from esd_splat.teacher.random_weights import SHAPES
from esd_splat.teacher.stable_diffusion import StableDiffusion


def test_a_folder_gives_the_same_shapes_as_its_weights(model: Path) -> None:
    config = StableDiffusion(model=str(model))
    loaded = config.load(torch.device("cpu"), torch.float16)
    shapes = [(name, p.shape, p.dtype) for name, p in loaded.network.named_parameters()]
    with Tracker():  # answers where the code asks for values
        teacher, texts = outline(config, torch.float16, Memory())
        latents = teacher.encode(torch.empty(2, 3, 16, 16, device="meta"))
        t = torch.ones(2, dtype=torch.long, device="meta")
        eps = teacher.eps(latents, t, teacher.embed(["a red owl"]).expand(2, -1, -1))
    assert [(name, p.shape, p.dtype) for name, p in teacher.network.named_parameters()] == shapes
    assert all(p.is_meta for p in teacher.network.parameters())
    assert latents.shape == (2, *teacher.latent_shape) == (2, *loaded.latent_shape)
    assert eps.is_meta
    assert eps.shape == latents.shape
    assert len(texts) == 1


def test_known_models_have_a_shape() -> None:
    assert set(KNOWN.values()) <= SHAPES.keys()


class Mine(TeacherConfig):
    """A teacher of another package."""

    @property
    def vocabulary(self) -> None:
        return None

    def check(self, prompts: Mapping[str, str]) -> None: ...

    def load(
        self, device: torch.device, dtype: torch.dtype, memory: Memory | None = None
    ) -> NoReturn:
        raise AssertionError("an outline reads no weights")


def test_a_teacher_of_another_package_needs_a_family() -> None:
    with pytest.raises(TeacherError, match="teacher: the shapes of Mine are unknown; give"):
        outline(Mine(), torch.float32, Memory())
    with Tracker():
        found = outline(Mine(), torch.float32, Memory(), "tiny-sd")
    assert found.teacher.image_size == 16
