"""Fits by SDS, VSD and ESD: fixed points, equalities, and the numbers of the paper's script."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from esd_splat.distill.losses import Esd, ScoreDistillation, Sds, Vsd
from esd_splat.errors import RunError
from esd_splat.toy.exact import Gaussian, make_problem
from esd_splat.toy.fit import Fit, Levels, distil, draw_levels, every_level, fit, learning_rate
from esd_splat.toy.settings import Settings


def _cubature(levels: Levels, ndim: int) -> tuple[Tensor, Tensor, Levels]:
    """Draws whose plain mean is the exact expectation over (z, noise), for each of ``levels``.

    Predictions are affine in the draws and gradients are quadratic, and the points
    ``+-sqrt(2 d) e_i`` have the first three moments of a standard normal.
    """
    axes = (2 * ndim) ** 0.5 * torch.eye(2 * ndim, dtype=torch.float64)
    points = torch.cat([axes, -axes])
    torch.testing.assert_close(points.T @ points / len(points), torch.eye(2 * ndim).double())
    count = len(levels.alpha)
    repeated = (c.repeat_interleave(len(points), 0) for c in vars(levels).values())
    points = points.repeat(count, 1)
    return points[:, :ndim], points[:, ndim:], Levels(*repeated)


def _descend(loss: ScoreDistillation, levels: Levels, seed: int, steps: int = 300) -> float:
    """The error of exact descent against the closed form, over the target's largest variance."""
    ndim = 2
    target, start = make_problem(torch.Generator().manual_seed(seed), ndim, 1.0)
    draws = _cubature(levels, ndim)
    mean, factor = start.mean.clone().requires_grad_(), start.factor.clone().requires_grad_()
    optimizer = torch.optim.Adam([mean, factor], lr=0.1)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        distil(loss, target, Gaussian(mean, factor), *draws).backward()
        optimizer.step()
        decay.step()
    weight = loss.entropy_weight if isinstance(loss, Esd) else 0.0
    # The closed form for a single level is written out, to be independent of esd_splat.toy.exact.
    noise_share = (levels.sigma / levels.alpha).square().item()
    spread, axes = torch.linalg.eigh(target.cov)
    wanted = (weight * spread - (1 - weight) * noise_share).clamp_min(0)
    fitted = Gaussian(mean.detach(), factor.detach())
    wrong = (fitted.cov - (axes * wanted) @ axes.T, fitted.mean - target.mean)
    return max(w.abs().max().item() for w in wrong) / spread[-1].item()


@pytest.mark.parametrize(
    ("loss", "timestep"),
    [
        *((loss, 300) for loss in (Sds(), Vsd(), Esd(0.5), Esd(0.75), Esd(1.0), Esd(1.5))),
        (Esd(0.5), 100),
        (Esd(0.9), 500),
        (Esd(1.0), 700),
    ],
    ids=str,
)
def test_fixed_point_at_one_noise_level(loss: ScoreDistillation, timestep: int) -> None:
    """S_q = max(0, lambda S_p - (1 - lambda) (sigma / alpha)^2 I), and the mean converges."""
    assert _descend(loss, every_level(timestep), seed=timestep) < 1e-5


def _errors(run: Fit) -> tuple[float, float]:
    """The errors of the covariance, over the target's largest variance, and of the mean."""
    assert run.expected_cov is not None
    cov = (run.fitted.cov - run.expected_cov).abs().max() / torch.linalg.eigvalsh(run.target.cov)[
        -1
    ]
    return cov.item(), (run.fitted.mean - run.target.mean).abs().max().item()


@pytest.mark.parametrize("method", ["vsd", "esd"])
def test_the_default_run_arrives(method: str) -> None:
    run = fit(Settings(method))
    cov_error, mean_error = _errors(run)
    assert cov_error < 0.02
    assert mean_error < 0.02
    assert run.expected_cov is not None
    wanted = run.target.cov if method == "esd" else torch.zeros(2, 2, dtype=torch.float64)
    torch.testing.assert_close(run.expected_cov, wanted)


@pytest.mark.parametrize("timestep", [None, 300])
def test_a_sampled_run_between_vsd_and_the_marginal_arrives(timestep: int | None) -> None:
    config = Settings(lambda_coeff=0.9, timestep=timestep, dist_0=2.0, total_steps=700)
    assert max(_errors(fit(config))) < 0.03


def _gradients(
    loss: ScoreDistillation, config: Settings, paper: bool = False
) -> tuple[Tensor, Tensor]:
    """The gradients of one batch in the mean and the factor."""
    generator = torch.Generator().manual_seed(config.seed)
    target, start = make_problem(generator, config.ndim, config.dist_0)
    levels = draw_levels(config, generator)
    shape = (config.batch_size, config.ndim)
    z, noise = (torch.randn(shape, generator=generator).double() for _ in range(2))
    fitted = Gaussian(start.mean.requires_grad_(), start.factor.requires_grad_())
    loss_value = distil(loss, target, fitted, z, noise, levels, paper=paper)
    mean, factor = torch.autograd.grad(loss_value, [fitted.mean, fitted.factor])
    return mean, factor


@given(seed=st.integers(0, 2**32), ndim=st.integers(1, 6), timestep=st.none() | st.integers(0, 999))
@settings(max_examples=50, deadline=None)
def test_vsd_from_scores_is_sds_from_the_noise(seed: int, ndim: int, timestep: int | None) -> None:
    config = Settings(seed=seed, ndim=ndim, timestep=timestep, batch_size=32)
    sds, vsd = _gradients(Sds(), config), _gradients(Vsd(), config)
    torch.testing.assert_close(vsd, sds, rtol=1e-10, atol=1e-10)
    assert torch.equal(_gradients(Esd(0.0), config)[1], vsd[1])


def test_whole_runs_of_sds_and_vsd_agree() -> None:
    sds, vsd = (fit(Settings(m, total_steps=200)) for m in ("sds", "vsd"))
    assert sds.steps == vsd.steps
    for one, other in zip(sds.path, vsd.path, strict=True):
        torch.testing.assert_close(one.mean, other.mean, rtol=0, atol=1e-10)
        torch.testing.assert_close(one.factor, other.factor, rtol=0, atol=1e-10)


def test_same_seed_same_bits_however_it_is_drawn() -> None:
    first = fit(Settings(total_steps=50, seed=5))
    again = fit(Settings(total_steps=50, seed=5, num_samples_vis=7, logging_steps=25))
    other = fit(Settings(total_steps=50, seed=6))
    assert torch.equal(first.fitted.mean, again.fitted.mean)
    assert torch.equal(first.fitted.factor, again.fitted.factor)
    assert not torch.equal(first.fitted.mean, other.fitted.mean)
    assert first.steps == [0, 10, 20, 30, 40, 50]
    assert again.steps == [0, 25, 50]


def test_the_path_keeps_the_past() -> None:
    """The paper's script stores views of the live parameters, so its history is its last state."""
    path = fit(Settings(total_steps=30)).path
    assert len({tuple(g.mean.tolist()) for g in path}) == len(path)


@pytest.mark.parametrize(
    ("method", "lambda_coeff", "mean", "variances"),
    # Printed by gaussian_example.py at b79d7f2 without its plotting, for --device cpu
    # --total_steps 300 --dist_0 3 --method METHOD --lambda_coeff LAMBDA, seed 0, torch 2.13.
    [
        ("sds", 1.0, [0.8514693, 1.8884310], [1.3816761e-03, 2.3247225e-02]),
        ("vsd", 1.0, [0.7535065, 1.8352097], [6.8490335e-06, 2.0706878e-04]),
        ("esd", 1.0, [0.7549390, 1.8369250], [1.0287420, 2.9595437]),
        ("esd", 0.5, [0.7541197, 1.8356453], [1.9371137e-04, 1.7806265e-01]),
    ],
)
def test_paper_mode_repeats_the_papers_script(
    method: str, lambda_coeff: float, mean: list[float], variances: list[float]
) -> None:
    config = Settings(method, None, 2, 3.0, lambda_coeff, 0, 300, paper=True)
    run = fit(config)
    torch.testing.assert_close(run.fitted.mean.tolist(), mean, rtol=0, atol=5e-5)
    found = torch.linalg.eigvalsh(run.fitted.cov).tolist()
    torch.testing.assert_close(found, variances, rtol=1e-3, atol=0)


def test_the_papers_sds_is_right_on_average_and_far_noisier() -> None:
    """Its noise has the wrong sign and scale: there is no bias, but no control variate either."""
    configs = [Settings(seed=seed, dist_0=0.0, batch_size=64, paper=True) for seed in range(200)]
    wrong = torch.stack([_gradients(Sds(), config, paper=True)[0] for config in configs])
    right = torch.stack([_gradients(Vsd(), config, paper=True)[0] for config in configs])
    error = (wrong.std(0) + right.std(0)) / 200**0.5
    assert ((wrong - right).mean(0).abs() < 4 * error).all()
    assert (wrong.var(0) > 2 * right.var(0)).all()


def test_learning_rates_by_hand() -> None:
    ours = Settings(total_steps=200, warmup_steps=100, lr=0.4, min_lr=0.1)
    assert learning_rate(ours, 0) == pytest.approx(0.004), "the first step moves"
    assert learning_rate(ours, 99) == pytest.approx(0.4)
    assert learning_rate(ours, 150) == pytest.approx(0.25)
    assert learning_rate(ours, 200) == pytest.approx(0.1)
    paper = Settings(total_steps=200, warmup_steps=100, lr=0.4, min_lr=0.6, paper=True)
    assert learning_rate(paper, 0) == 0
    assert learning_rate(paper, 200) == pytest.approx(0.24), "a multiple: 0.6 of 0.4"
    steady = Settings(scheduler_type="none", lr=0.3)
    assert {learning_rate(steady, s) for s in (0, 50, 2000)} == {0.3}


def test_a_run_that_leaves_the_numbers_says_so() -> None:
    with pytest.raises(RunError, match=r"^ESD, lambda 1 diverged at step 0: lower --lr$"):
        fit(Settings(lr=1e300))
