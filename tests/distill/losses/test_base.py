"""The surrogate loss for autograd, and what a new loss gets and must declare."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from esd_splat.distill.losses import (
    LOSSES,
    PREDICTIONS,
    Esd,
    ScoreDistillation,
    Sds,
    Vsd,
    surrogate_loss,
)
from esd_splat.settings.schema import json_schema


def test_gradient_is_the_direction_over_the_batch() -> None:
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    d = torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    surrogate_loss(x, d).backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, d.detach() / 3)
    assert d.grad is None


def test_small_directions_survive_half_precision() -> None:
    """float16 spacing just below 4.0 is 2**-9; the x - (x - d) form returns exactly zero here."""
    x = torch.full((1, 4, 1, 1), 4.0, dtype=torch.float16, requires_grad=True)
    d = torch.full_like(x, 5e-4).detach()
    surrogate_loss(x, d).backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, d, rtol=0, atol=0)
    assert ((x - (x - d)) == 0).all(), "the rejected form no longer fails: simplify the comment"


def test_large_latents_do_not_overflow_half_precision() -> None:
    x = torch.full((1, 4, 64, 64), 5.0, dtype=torch.float16, requires_grad=True)
    loss = surrogate_loss(x, torch.full_like(x, 2.0))
    assert loss.item() == 4 * 64 * 64 * 10  # 163,840: more than float16 holds
    loss.backward()
    assert x.grad is not None
    assert (x.grad == 2).all()


def test_asking_for_an_unknown_prediction_fails_where_the_class_is_written() -> None:
    with pytest.raises(TypeError, match=r"Typo.direction asks for \['techer'\]"):

        class Typo(ScoreDistillation):
            def direction(self, techer: Tensor) -> Tensor:
                return techer


def test_a_new_loss_needs_what_its_direction_names() -> None:
    @dataclass(frozen=True)
    class Mine(ScoreDistillation):
        """Made up."""

        def direction(self, teacher: Tensor, noise: Tensor) -> Tensor:
            return teacher + noise

    assert Mine().needs == Mine.takes == {"teacher", "noise"}


@pytest.mark.parametrize(
    ("loss", "names"),
    [
        (Sds(), ["teacher", "noise"]),
        (Vsd(), ["teacher", "lora"]),
        (Esd(0.0), ["teacher", "lora"]),
        (Esd(0.5), ["teacher", "lora", "lora_null"]),
        (Esd(1.0), ["teacher", "lora_null"]),
        (Esd(1.5), ["teacher", "lora", "lora_null"]),
    ],
    ids=str,
)
def test_needs_are_what_the_direction_depends_on(loss: ScoreDistillation, names: list[str]) -> None:
    """Neither more, which would cost a network evaluation, nor less."""
    needs = set(names)
    assert loss.needs == needs
    eps = {
        name: torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
        for name in loss.takes
    }
    direction = loss.direction(**eps)
    grads = torch.autograd.grad(direction.sum(), list(eps.values()), allow_unused=True)
    used = {name for name, g in zip(eps, grads, strict=True) if g is not None and g.any()}
    assert used == needs
    asked_only = {name: value for name, value in eps.items() if name in needs}
    assert torch.equal(loss.direction(**asked_only), direction)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_a_frozen_dataclass_with_docstrings(name: str) -> None:
    cls = LOSSES[name]
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}(")
    assert cls.takes <= PREDICTIONS
    assert cls().needs
    described = json_schema(cls).get("properties", {})
    assert all("description" in described[f.name] for f in dataclasses.fields(cls))
