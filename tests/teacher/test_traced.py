"""The recorded passes of a teacher on the CPU are those of its network."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from esd_splat.distill.lora import Lora
from esd_splat.distill.recent import Recent
from esd_splat.scene.cameras import Orbit
from esd_splat.teacher import Memory, StableDiffusion
from esd_splat.teacher.random_weights import save_blank
from esd_splat.teacher.sd import Sd

CPU = torch.device("cpu")


@pytest.fixture(params=["figurines", "tiny-sd"])
def teacher(request: pytest.FixtureRequest, tmp_path: Path) -> Sd:
    name = request.param
    model = name if name == "figurines" else str(save_blank(tmp_path / "model", name))
    loaded = StableDiffusion(model=model).load(CPU, torch.float32, Memory())
    assert isinstance(loaded, Sd)
    return loaded


def _inputs(teacher: Sd, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    noisy = torch.randn(rows, *teacher.latent_shape, generator=generator)
    t = torch.randint(1000, (rows,), generator=generator)
    texts = teacher.embed(["a red owl", "a blue cat"])[torch.arange(rows) % 2]
    return noisy, t, texts


def _by_the_network(teacher: Sd, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return teacher.network(*inputs).sample


@torch.no_grad()
def test_it_gives_the_same_bits(teacher: Sd) -> None:
    for rows in (2, 5, 1):  # the pass is recorded with the first number of rows
        inputs = _inputs(teacher, rows)
        assert torch.equal(teacher.output(*inputs), _by_the_network(teacher, inputs))
    assert teacher._traced is not None
    assert teacher._traced._graph is not None


def test_gradients_need_the_network(teacher: Sd) -> None:
    noisy, t, texts = _inputs(teacher, 2)
    noisy.requires_grad_()
    teacher.output(noisy, t, texts).sum().backward()
    assert noisy.grad is not None
    assert noisy.grad.abs().max() > 0


@pytest.mark.parametrize("recorded_first", [True, False])
def test_a_lora_is_only_in_its_own_passes(teacher: Sd, recorded_first: bool) -> None:
    inputs = _inputs(teacher, 2)
    with torch.no_grad():
        known = teacher.output(*inputs) if recorded_first else _by_the_network(teacher, inputs)
    lora = Lora(rank=2, warmup=0, lr=0.1).attach(teacher, 0)
    c2w = Orbit().sample(2, torch.Generator().manual_seed(0)).c2w
    drawn = lora.draw(2, torch.Generator().manual_seed(0))
    hidden = torch.zeros(2, dtype=torch.bool)
    for _ in range(3):
        lora.train(Recent.of(inputs[0], c2w, 0), inputs[2][:1], drawn)
        with torch.no_grad():
            assert torch.equal(teacher.output(*inputs), known)
        assert (lora.eps(*inputs, c2w, hidden) - known).abs().max() > 1e-3


def test_it_can_be_left_out() -> None:
    teacher = StableDiffusion().load(CPU, torch.float32, Memory(trace=False))
    assert isinstance(teacher, Sd)
    assert teacher._traced is None
