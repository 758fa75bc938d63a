"""The LoRA inside the teacher's network: inactive unless it is called, and restored exactly."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from esd_splat.distill.lora import AttachedLora, Lora
from esd_splat.distill.recent import Recent
from esd_splat.errors import TeacherError
from esd_splat.scene.cameras import Orbit
from esd_splat.teacher import StableDiffusion, Teacher
from esd_splat.teacher.noise import add_noise
from tests.tiny import save_tiny

SHOWN, HIDDEN = torch.tensor([False, False]), torch.tensor([True, True])
T = torch.tensor([50, 800])


@pytest.fixture
def teacher(model: Path) -> Teacher:
    return StableDiffusion(model=str(model)).load(torch.device("cpu"), torch.float32)


def _draw(seed: int) -> Tensor:
    return torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


def _c2w() -> Tensor:
    return Orbit().sample(2, torch.Generator().manual_seed(0)).c2w


def _views() -> Recent:
    return Recent.of(_draw(7), _c2w(), 0)


def _train(lora: AttachedLora, teacher: Teacher, times: int, seed: int = 0) -> list[float]:
    generator, words = torch.Generator().manual_seed(seed), teacher.embed(["a red owl"])
    return [lora.train(_views(), words, lora.draw(2, generator)).item() for _ in range(times)]


def _error(lora: AttachedLora, teacher: Teacher) -> float:
    """Return the mean squared error to the drawn noise, averaged over noise levels."""
    words, off = teacher.embed(["a red owl"] * 2), []
    for index, level in enumerate(range(50, 1000, 50)):
        noise, t = _draw(100 + index), torch.full((2,), level)
        noisy = add_noise(_draw(7), noise, teacher.alphas_cumprod, t)
        off.append((lora.eps(noisy, t, words, _c2w(), SHOWN) - noise).square().mean().item())
    return sum(off) / len(off)


def test_a_fresh_lora_predicts_what_the_teacher_does(teacher: Teacher) -> None:
    words, noisy = teacher.embed(["a red owl"] * 2), _draw(0)
    with torch.no_grad():
        before = teacher.eps(noisy, T, words)
    lora = Lora(rank=2).attach(teacher, seed=0)
    for hidden in (SHOWN, HIDDEN):
        torch.testing.assert_close(lora.eps(noisy, T, words, _c2w(), hidden), before)


@pytest.mark.parametrize("layers", ["attention", "attention+convolution"])
def test_training_moves_the_lora_and_never_the_teacher(teacher: Teacher, layers: str) -> None:
    words, noisy = teacher.embed(["a red owl"] * 2), _draw(0)
    with torch.no_grad():
        before = teacher.eps(noisy, T, words)
    config = Lora(rank=2, layers=layers, lr=1e-2, warmup=0, camera_dropout=0.5)  # pyright: ignore
    lora = config.attach(teacher, seed=0)
    frozen = [p for p in teacher.network.parameters() if not any(p is q for q in lora.parameters)]
    copies = [p.clone() for p in frozen]
    untrained = _error(lora, teacher)
    _train(lora, teacher, 60)
    assert _error(lora, teacher) < 0.995 * untrained
    with torch.no_grad():
        assert torch.equal(teacher.eps(noisy, T, words), before), "the adapters are asleep"
    assert all(torch.equal(a, b) for a, b in zip(frozen, copies, strict=True))
    shown, hidden = (lora.eps(noisy, T, words, _c2w(), h) for h in (SHOWN, HIDDEN))
    assert not torch.allclose(shown, before)
    assert not torch.allclose(shown, hidden), "it tells cameras from none"


def test_a_hidden_camera_is_a_vector_of_zeros(teacher: Teacher) -> None:
    lora = Lora(rank=2, lr=1e-2, warmup=0).attach(teacher, seed=0)
    _train(lora, teacher, 3)
    words, noisy = teacher.embed(["a red owl"] * 2), _draw(0)
    zero = torch.zeros(2, 4, 4)
    torch.testing.assert_close(
        lora.eps(noisy, T, words, _c2w(), HIDDEN), lora.eps(noisy, T, words, zero, SHOWN)
    )


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.8])
def test_cameras_are_dropped_sample_by_sample(teacher: Teacher, dropout: float) -> None:
    """Both kinds must occur within single batches."""
    lora = Lora(rank=1, camera_dropout=dropout).attach(teacher, seed=0)
    seen: list[list[bool]] = []
    lora.adapters.camera.register_forward_hook(
        lambda m, inputs, out: seen.append(inputs[1].tolist())
    )
    _train(lora, teacher, 40)
    assert any(a != b for a, b in seen)
    assert sum(map(sum, seen)) / 80 == pytest.approx(dropout, abs=0.15)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_its_error_is_to_what_the_network_should_have_said(tmp_path: Path, predicts: str) -> None:
    """Before its first step it equals the teacher, so the teacher alone gives the number."""
    model = save_tiny(tmp_path / "model", predicts)
    teacher = StableDiffusion(model=str(model)).load(torch.device("cpu"), torch.float32)
    generator, words, clean = (
        torch.Generator().manual_seed(5),
        teacher.embed(["a owl"] * 2),
        _draw(7),
    )
    t = torch.randint(1000, (2,), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    noisy = add_noise(clean, noise, teacher.alphas_cumprod, t)
    with torch.no_grad():
        off = teacher.eps(noisy, t, words) - noise
    if predicts == "v_prediction":
        off /= teacher.alphas_cumprod[t].sqrt()[
            :, None, None, None
        ]  # eps - noise is alpha (v - v*)
    lora = Lora(rank=2).attach(teacher, seed=0)
    drawn = lora.draw(2, torch.Generator().manual_seed(5))
    found = lora.train(_views(), words[:1], drawn).item()
    assert found == pytest.approx(off.square().mean().item(), rel=1e-4)


def test_its_rate_rises_over_the_warm_up(teacher: Teacher) -> None:
    lora, rates = Lora(rank=1, lr=1e-2, warmup=4).attach(teacher, seed=0), []
    for _ in range(6):
        _train(lora, teacher, 1)
        rates.append(lora.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])


def test_several_steps_are_so_many_trainings(model: Path) -> None:
    ends = []
    for steps, calls in ((3, 1), (1, 3)):
        teacher = StableDiffusion(model=str(model)).load(torch.device("cpu"), torch.float32)
        lora = Lora(rank=1, steps=steps).attach(teacher, seed=0)
        _train(lora, teacher, calls)
        ends.append(torch.cat([p.detach().flatten() for p in lora.parameters]))
    assert torch.equal(*ends)


def test_nothing_draws_it_back_to_the_teacher(teacher: Teacher) -> None:
    """Weight decay would."""
    lora = Lora(rank=1).attach(teacher, seed=0)
    _train(lora, teacher, 1)
    lora.optimizer.state.clear()
    before = [p.detach().clone() for p in lora.parameters]
    for parameter in lora.parameters:
        parameter.grad = torch.zeros_like(parameter)
    lora.optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(lora.parameters, before, strict=True))


def test_a_restored_lora_goes_on_to_the_same_bits(model: Path) -> None:
    config, results = Lora(rank=2, warmup=5, steps=2), []
    for cut in (False, True):
        teacher = StableDiffusion(model=str(model)).load(torch.device("cpu"), torch.float32)
        lora = config.attach(teacher, seed=3)
        _train(lora, teacher, 4)
        if cut:
            state = lora.state()
            teacher = StableDiffusion(model=str(model)).load(torch.device("cpu"), torch.float32)
            lora = config.attach(teacher, seed=4)
            lora.restore(state)
        _train(lora, teacher, 3, seed=1)
        results.append([p.detach().clone() for p in lora.parameters])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_the_start_depends_on_the_seed_alone(model: Path) -> None:
    starts = []
    for seed in (0, 0, 1):
        torch.rand(3)  # the state of the global generator differs each time, and must not change
        before = torch.get_rng_state()
        teacher = StableDiffusion(model=str(model)).load(torch.device("cpu"), torch.float32)
        starts.append(torch.cat([p.flatten() for p in Lora().attach(teacher, seed).parameters]))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_a_network_without_a_layer_to_adapt_is_refused(teacher: Teacher) -> None:
    teacher.network = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(TeacherError, match=r"no layer that the LoRA could adapt \(to_q, "):
        Lora().attach(teacher, seed=0)


def test_wrong_values_are_reported_together() -> None:
    with pytest.raises(ValueError, match=r"(?s)rank: must be at least 1, got 0.*lr: .*got 0"):
        Lora(rank=0, lr=0.0)
