"""Ways to spread the views that go beyond the paper."""

from pathlib import Path

import pytest
import torch

from esd_splat.losses import HeldEsd, ScheduledEsd
from esd_splat.teacher.guidance import uniform_prior
from tests.test_distillation import _means, _start
from tests.tiny import save_tiny

WORLD = torch.Generator().manual_seed(0)
POOLED = ("loss=esd", "loss.camera=noise", "loss.marginal=pool")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


def test_a_schedule_is_linear() -> None:
    teacher, noise, pooled = torch.randn(3, 2, 4, 2, 2, generator=WORLD)
    loss = ScheduledEsd(start=2.0, end=1.0)
    half = loss.direction(teacher=teacher, noise=noise, pooled=pooled, progress=0.5)
    torch.testing.assert_close(half, teacher - 1.5 * pooled + 0.5 * noise)


def test_less_information_means_more_weight() -> None:
    teacher, noise, pooled = torch.randn(3, 2, 4, 2, 2, generator=WORLD)
    loss = HeldEsd(weight=1.0, gain=2.0, target=0.5)
    low, on = (
        loss.direction(teacher=teacher, noise=noise, pooled=pooled, information=i) for i in (0, 0.5)
    )
    torch.testing.assert_close(on, teacher - pooled)
    torch.testing.assert_close(low, teacher - 2 * pooled + noise)


def test_a_constant_schedule_and_a_loose_hold_are_esd(model: Path) -> None:
    esd = _means(_start(model, *POOLED), 4)
    assert torch.equal(esd, _means(_start(model, "loss=esd_scheduled"), 4))
    assert torch.equal(esd, _means(_start(model, "loss=esd_held", "loss.gain=0"), 4))
    assert not torch.equal(esd, _means(_start(model, "loss=esd_held"), 4))


def test_scenes_take_turns(model: Path) -> None:
    run = _start(model, *POOLED, "scenes=2")
    _means(run, 4)
    (one, _), (other, _) = run.others
    assert one is not other
    assert run.optimizer is other


def test_uniform_prior_follows_whoever_explains_the_noise() -> None:
    noise, away = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, -1.0]]]])
    answers = torch.stack([away, 20 * away])
    torch.testing.assert_close(uniform_prior(answers, noise), away)
    torch.testing.assert_close(uniform_prior(torch.stack([away, -away]), noise), noise)


def test_a_teacher_with_a_uniform_prior_runs(model: Path) -> None:
    keys = "teacher.views.enabled=true", "teacher.views.uniform=true"
    with_prior = _means(_start(model, *POOLED, *keys), 2)
    assert not torch.equal(with_prior, _means(_start(model, *POOLED, keys[0]), 2))
