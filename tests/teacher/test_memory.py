"""Settings that save memory take effect and change no result."""

from pathlib import Path
from typing import Any

import pytest
import torch

from esd_splat.distill.lora import AttachedLora, Lora
from esd_splat.distill.recent import Recent
from esd_splat.scene.cameras import Orbit
from esd_splat.teacher import Memory, StableDiffusion
from esd_splat.teacher.latent import LatentTeacher
from esd_splat.teacher.random_weights import save_blank

CPU = torch.device("cpu")


def _load(model: Path, memory: Memory | None = None) -> LatentTeacher:
    teacher = StableDiffusion(model=str(model)).load(CPU, torch.float32, memory)
    assert isinstance(teacher, LatentTeacher)
    return teacher


def _trained(teacher: LatentTeacher, at_once: int | None = None) -> AttachedLora:
    lora = Lora(rank=2, camera_dropout=0.5, lr=1e-3, warmup=0).attach(teacher, 0)
    clean = torch.randn(3, *teacher.latent_shape, generator=torch.Generator().manual_seed(1))
    c2w = Orbit().sample(3, torch.Generator().manual_seed(2)).c2w
    views, words = Recent.of(clean, c2w, 0), teacher.embed(["a red owl"])
    for _ in range(2):
        lora.train(views, words, lora.draw(3, torch.Generator().manual_seed(3)), at_once)
    return lora


def _assert_same_training(known: AttachedLora, found: AttachedLora) -> None:
    """Compare Adam's running means, since steps only have the sign of gradients near zero."""
    states = (lora.optimizer.state_dict()["state"] for lora in (known, found))
    for expected, moments in zip(*(state.values() for state in states), strict=True):
        torch.testing.assert_close(moments["exp_avg"], expected["exp_avg"], atol=1e-5, rtol=1e-3)


def _kept_for_backward(teacher: LatentTeacher) -> tuple[int, int, torch.Tensor]:
    """The numbers kept while encoding and while the LoRA trains, and the gradient on the images."""
    sizes: list[int] = []

    def pack(x: torch.Tensor) -> torch.Tensor:
        sizes.append(0 if isinstance(x, torch.nn.Parameter) else x.numel())
        return x

    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        latents = teacher.encode(images)
        encoding = sum(sizes)
        weights = torch.linspace(-1, 1, latents.numel()).view_as(latents)
        (grad,) = torch.autograd.grad((weights * latents).sum(), images)
        sizes.clear()
        Lora(rank=2).attach(teacher, 0)
        clean = latents.detach()
        noisy = clean.clone().requires_grad_()
        teacher.output(noisy, torch.tensor([5, 500]), teacher.embed(["a cat"] * 2))
    return encoding, sum(sizes), grad


@pytest.mark.parametrize("family", ["tiny-sd", "tiny-sd3"])
def test_checkpointing_keeps_less_and_gives_the_same_gradients(tmp_path: Path, family: str) -> None:
    """Blocks are recomputed after the pass, and the adapters and cameras must act then, too."""
    model = save_blank(tmp_path / "model", family)
    saving = Memory(checkpointing=True)
    plain, less = _kept_for_backward(_load(model)), _kept_for_backward(_load(model, saving))
    assert less[0] < 0.7 * plain[0]
    assert less[1] < 0.7 * plain[1]
    torch.testing.assert_close(less[2], plain[2])
    _assert_same_training(_trained(_load(model)), _trained(_load(model, saving)))


def test_a_lora_trains_on_some_views_at_a_time_as_on_all(model: Path) -> None:
    _assert_same_training(_trained(_load(model)), _trained(_load(model), at_once=2))


@torch.no_grad()
def test_slicing_shows_the_vae_one_picture_at_a_time(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, sliced = _load(model), _load(model, Memory(slicing=True))
    rows: list[int] = []
    for name in ("encoder", "decoder"):
        part: Any = getattr(sliced._vae, name)
        part.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    images = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(sliced.encode(images), plain.encode(images))
    latents = torch.randn(3, *plain.latent_shape)
    torch.testing.assert_close(sliced.decode(latents), plain.decode(latents))
    assert rows == [1] * 6


def test_offload_leaves_text_encoders_where_they_are() -> None:
    parts = {name: torch.nn.Linear(2, 2) for name in ("unet", "vae", "text_encoder_2")}
    Memory(offload=True).place(parts, torch.device("meta"))
    assert {n: p.weight.device.type for n, p in parts.items()} == {
        **{"unet": "meta", "vae": "meta"},
        "text_encoder_2": "cpu",
    }
    Memory().place(parts, torch.device("meta"))
    assert parts["text_encoder_2"].weight.device.type == "meta"


@pytest.mark.parametrize("wanted", [False, True])
def test_compile_is_asked_of_the_network(
    model: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda f, *a, **k: asked.append(f.__self__) or f)
    teacher = _load(model, Memory(compile=wanted))
    assert asked == [teacher.network] * wanted
    _trained(teacher)


def test_at_least_one_view() -> None:
    with pytest.raises(ValueError, match="views_at_once: must be at least 1, got 0"):
        Memory(views_at_once=0)
