"""Every penalty by hand. Nothing but its weight scales it."""

import math

import pytest
import torch

from esd_splat.distill.losses import Regularise
from esd_splat.scene.gaussians import Gaussians

ALPHAS = torch.tensor([[[0.0, 1.0], [0.5, 0.0]]], dtype=torch.float64)


def _total(regularise: Regularise, scene: Gaussians, alphas: torch.Tensor = ALPHAS) -> torch.Tensor:
    return torch.stack(list(regularise.terms(scene, alphas).values())).sum()


def _scene(copies: int = 1) -> Gaussians:
    """Opacities 0.5 and 0.75; standard deviations (1, 2, 3) and (4, 5, 6)."""

    def tensor(values: list[object]) -> torch.Tensor:
        return torch.tensor(values * copies, dtype=torch.float64)

    zeros = torch.zeros(2 * copies, 3, dtype=torch.float64)
    return Gaussians(
        means=zeros,
        quats=tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0]]),
        log_scales=tensor([[1.0, 2, 3], [4.0, 5, 6]]).log().requires_grad_(),
        opacity_logits=tensor([0.0, math.log(3)]).requires_grad_(),
        sh0=zeros[:, None],
        shN=zeros[:, None][:, :0],
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("opacity", 0.625),
        ("scale", 3.5),
        ("sparsity", (0.1 + 1.01**0.5 + 0.26**0.5 + 0.1) / 4),
        ("binary", 0.25 / 4),
    ],
)
def test_penalties_by_hand(name: str, expected: float) -> None:
    regularise = Regularise(**{name: 2.0})
    (term,) = regularise.terms(_scene(), ALPHAS).items()
    assert term[0] == name
    assert term[1].item() == pytest.approx(2 * expected)


def test_twice_the_gaussians_views_and_pixels_are_the_same_penalty() -> None:
    regularise = Regularise(opacity=1.0, scale=1.0, sparsity=1.0, binary=1.0)
    doubled = ALPHAS.repeat(2, 2, 1)
    torch.testing.assert_close(_total(regularise, _scene(2), doubled), _total(regularise, _scene()))


def test_descent_fades_shrinks_empties_and_decides() -> None:
    scene, alphas = _scene(), torch.tensor([[[0.2, 0.8]]], dtype=torch.float64).requires_grad_()
    _total(Regularise(opacity=1.0, scale=1.0), scene, alphas).backward()
    assert scene.opacity_logits.grad is not None
    assert scene.log_scales.grad is not None
    assert (scene.opacity_logits.grad > 0).all()
    assert (scene.log_scales.grad > 0).all()
    (sparsity,) = torch.autograd.grad(_total(Regularise(sparsity=1.0), scene, alphas), alphas)
    assert (sparsity > 0).all()
    (binary,) = torch.autograd.grad(_total(Regularise(binary=1.0), scene, alphas), alphas)
    assert binary.flatten().sign().tolist() == [1, -1]


def test_an_empty_pixel_has_no_sparsity_gradient() -> None:
    alphas = torch.zeros(1, 2, 2, dtype=torch.float64, requires_grad=True)
    _total(Regularise(sparsity=1.0), _scene(), alphas).backward()
    assert alphas.grad is not None
    assert (alphas.grad == 0).all()


def test_off_by_default() -> None:
    assert Regularise().terms(_scene(), ALPHAS) == {}


def test_rejects_with_every_reason() -> None:
    with pytest.raises(ValueError, match="opacity") as caught:
        Regularise(opacity=-1.0, scale=float("nan"), binary=float("inf"))
    assert str(caught.value) == (
        "opacity: must be at least 0, got -1\n"
        "scale: must be at least 0, got nan\n"
        "binary: must be at least 0, got inf"
    )
