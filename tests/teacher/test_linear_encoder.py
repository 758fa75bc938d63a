"""The linear stand-in for an encoder."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from esd_splat.teacher import LinearEncoder, StableDiffusion
from tests.tiny import save_tiny


def test_a_linear_encoder_is_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    bias = torch.linspace(-1, 1, 4)

    def encode(images: torch.Tensor) -> torch.Tensor:
        small = F.avg_pool2d(images, images.shape[-1] // 4)
        return torch.einsum("kc,bchw->bkhw", weight, small) + bias[:, None, None]

    model = StableDiffusion(model=str(save_tiny(tmp_path / "model")))
    teacher = model.load(torch.device("cpu"), torch.float32)
    assert teacher.latent_shape == tuple(teacher.encode(torch.rand(1, 3, 16, 16)).shape[1:])
    monkeypatch.setattr(teacher, "encode", encode)
    found = LinearEncoder.fit(teacher, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.weight, weight)
    torch.testing.assert_close(found.bias, bias)
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    torch.testing.assert_close(found.encode(images), encode(images))
    found.encode(images).sum().backward()
    assert images.grad is not None
    expected = (weight.sum(0) / 16)[None, :, None, None].expand_as(images)
    torch.testing.assert_close(images.grad, expected)
