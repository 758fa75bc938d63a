"""Where SDS, VSD and ESD take a Gaussian: fixed points, equalities, and the paper's own numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from esd_splat.errors import RunError
from esd_splat.losses import Esd, ScoreDistillation, Sds, Vsd
from toy.exact import Gaussian, make_problem
from toy.fit import Levels, distil, draw_levels, every_level, fit, learning_rate
from toy.settings import Settings


def _cubature(levels: Levels, ndim: int) -> tuple[Tensor, Tensor, Levels]:
    """Draws whose plain mean is the exact expectation over (z, noise), at each of ``levels``.

    Predictions are affine in the draws and gradients quadratic, and the points
    ``+-sqrt(2 d) e_i`` have the moments of a standard normal up to the third.
    """
    axes = (2 * ndim) ** 0.5 * torch.eye(2 * ndim, dtype=torch.float64)
    points = torch.cat([axes, -axes])
    torch.testing.assert_close(points.T @ points / len(points), torch.eye(2 * ndim).double())
    count = len(levels.alpha)
    repeated = (c.repeat_interleave(len(points), 0) for c in vars(levels).values())
    points = points.repeat(count, 1)
    return points[:, :ndim], points[:, ndim:], Levels(*repeated)


def _descend(loss: ScoreDistillation, levels: Levels, seed: int, steps: int = 600) -> float:
    """Distance of mean and covariance to those expected after exact descent, per largest variance."""
    ndim = 2
    target, start = make_problem(torch.Generator().manual_seed(seed), ndim, 1.0)
    draws = _cubature(levels, ndim)
    mean, factor = start.mean.clone().requires_grad_(), start.factor.clone().requires_grad_()
    optimizer = torch.optim.Adam([mean, factor], lr=0.05)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        distil(loss, target, Gaussian(mean, factor), *draws).backward()
        optimizer.step()
        decay.step()
    weight = loss.entropy_weight if isinstance(loss, Esd) else 0.0
    # Written out here rather than taken from toy.exact, for a single level.
    noise_share = (levels.sigma / levels.alpha).square().item()
    spread, axes = torch.linalg.eigh(target.cov)
    wanted = (weight * spread - (1 - weight) * noise_share).clamp_min(0)
    fitted = Gaussian(mean.detach(), factor.detach())
    off = max((fitted.cov - (axes * wanted) @ axes.T).abs().max(), (mean - target.mean).abs().max())
    return float(off / spread[-1])


@pytest.mark.parametrize("timestep", [100, 300, 500])
@pytest.mark.parametrize(
    "loss", [Sds(), Vsd(), Esd(0.0), Esd(0.5), Esd(0.75), Esd(1.0), Esd(1.5)], ids=str
)
def test_fixed_point_at_one_noise_level(loss: ScoreDistillation, timestep: int) -> None:
    """S_q = max(0, lambda S_p - (1 - lambda) (sigma / alpha)^2 I), and the mean arrives."""
    assert _descend(loss, every_level(timestep), seed=timestep) < 0.02


@pytest.mark.parametrize(
    ("method", "lambda_coeff"), [("sds", 1.0), ("vsd", 1.0), ("esd", 0.9), ("esd", 1.0)]
)
def test_the_default_run_arrives(method: str, lambda_coeff: float) -> None:
    run = fit(Settings(method, lambda_coeff=lambda_coeff, logging_steps=2000))
    assert run.expected_cov is not None
    largest = torch.linalg.eigvalsh(run.target.cov)[-1]
    assert (run.fitted.cov - run.expected_cov).abs().max() < 0.02 * largest
    assert (run.fitted.mean - run.target.mean).abs().max() < 0.02
    if method == "esd" and lambda_coeff == 1:
        torch.testing.assert_close(run.expected_cov, run.target.cov)
    elif method != "esd":
        assert torch.linalg.eigvalsh(run.fitted.cov)[-1] < 1e-3, "collapsed"


def _gradients(
    loss: ScoreDistillation, config: Settings, paper: bool = False
) -> tuple[Tensor, Tensor]:
    """Of one batch, in mean and factor."""
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
    """The paper's script stores views of the live parameters: its history is its last state."""
    path = fit(Settings(total_steps=30)).path
    assert len({tuple(g.mean.tolist()) for g in path}) == len(path)


@pytest.mark.parametrize(
    ("method", "lambda_coeff", "mean", "variances"),
    # gaussian_example.py at b79d7f2, its plotting removed: --device cpu --method METHOD
    # --lambda_coeff LAMBDA, seed 0, torch 2.13; it works in float32.
    [
        ("sds", 1.0, [0.5927699, 1.4037702], [1.5254743e-05, 4.4079963e-03]),
        ("vsd", 1.0, [0.5761188, 1.3820875], [1.4566166e-04, 2.5008229e-04]),
        ("esd", 1.0, [0.5756695, 1.3775343], [1.0272213, 2.9186163]),
        ("esd", 0.5, [0.5763550, 1.3823518], [6.4150430e-04, 0.1959836]),
    ],
)
def test_paper_mode_repeats_the_papers_script(
    method: str, lambda_coeff: float, mean: list[float], variances: list[float]
) -> None:
    run = fit(Settings(method, lambda_coeff=lambda_coeff, paper=True, logging_steps=2000))
    torch.testing.assert_close(run.fitted.mean.tolist(), mean, rtol=0, atol=5e-5)
    found = torch.linalg.eigvalsh(run.fitted.cov).tolist()
    torch.testing.assert_close(found, variances, rtol=1e-3, atol=0)


def test_the_papers_sds_is_right_on_average_and_far_noisier() -> None:
    """As found by hand at one level; over its whole schedule the noise is a multiple too."""

    def batches(paper: bool) -> Tensor:
        runs = [Settings(seed=s, dist_0=0.0, batch_size=64, paper=True) for s in range(300)]
        return torch.stack([_gradients(Sds(), c, paper)[0] for c in runs])

    # The right noise under the paper's schedule and gradient is its own VSD.
    right = torch.stack(
        [
            _gradients(Vsd(), Settings(seed=s, dist_0=0.0, batch_size=64, paper=True), True)[0]
            for s in range(300)
        ]
    )
    wrong = batches(True)
    error = (wrong.std(0) + right.std(0)) / 300**0.5
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
