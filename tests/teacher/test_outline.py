"""Teachers without values are called like those with values."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from esd_splat.errors import TeacherError
from esd_splat.teacher.memory import Memory
from esd_splat.teacher.outline import KNOWN, outline
from esd_splat.teacher.random_weights import SHAPES
from esd_splat.teacher.stable_diffusion import StableDiffusion


def test_a_folder_gives_the_same_shapes_as_its_weights(model: Path) -> None:
    config = StableDiffusion(model=str(model))
    teacher, texts = outline(config, torch.float16, Memory())
    loaded = config.load(torch.device("cpu"), torch.float16)
    shapes = [(name, p.shape, p.dtype) for name, p in loaded.network.named_parameters()]
    assert [(name, p.shape, p.dtype) for name, p in teacher.network.named_parameters()] == shapes
    assert all(p.is_meta for p in teacher.network.parameters())
    assert teacher.latent_shape == loaded.latent_shape
    assert len(texts) == 1
    images = torch.empty(2, 3, 16, 16, device="meta")
    latents = teacher.encode(images)
    assert latents.shape == (2, *teacher.latent_shape)
    t = torch.ones(2, dtype=torch.long, device="meta")
    eps = teacher.eps(latents, t, teacher.embed(["a red owl"]).expand(2, -1, -1))
    assert eps.is_meta
    assert eps.shape == latents.shape


def test_known_models_have_a_shape() -> None:
    assert set(KNOWN.values()) <= SHAPES.keys()


def test_a_teacher_of_another_package_needs_a_family() -> None:
    with pytest.raises(TeacherError, match="teacher: the shapes of object are unknown; give"):
        outline(cast(Any, object()), torch.float32, Memory())
    assert outline(cast(Any, object()), torch.float32, Memory(), "tiny-sd").teacher.image_size == 16
