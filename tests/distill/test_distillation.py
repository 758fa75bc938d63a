"""The step itself, on a tiny teacher."""

from pathlib import Path

import pytest
import torch

from esd_splat.config import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.draws import draw_backgrounds
from esd_splat.distill.guidance import guide, perp_neg
from esd_splat.distill.predictions import Noised
from esd_splat.distill.step_config import StepConfig
from esd_splat.errors import CheckpointError
from esd_splat.scene.cameras import orbit_cameras
from esd_splat.teacher.noise import add_noise
from tests.tiny import IMAGE_SIZE


def _start(model: Path, *more: str) -> Distillation:
    keys = ["prompt=a red owl", f"teacher.model={model}", f"cameras.size={IMAGE_SIZE}", "batch=2"]
    config = load_config(None, [*keys, "steps=10", "init.count=20", "lora.rank=2", *more])
    teacher = config.teacher.load(torch.device("cpu"), torch.float32)
    return Distillation(StepConfig.of(config), teacher, "reference")


def _means(run: Distillation, steps: int) -> torch.Tensor:
    for _ in range(steps):
        run.step()
    return run.scene.means.detach()


def test_esd_without_entropy_is_vsd_to_the_bit(model: Path) -> None:
    esd = _means(_start(model, "loss=esd", "loss.entropy_weight=0"), 4)
    assert torch.equal(esd, _means(_start(model, "loss=vsd"), 4))
    lora_name = _means(_start(model, "loss=esd", "loss.guidance_scale_lora=1"), 4)
    assert torch.equal(esd, lora_name)
    assert not torch.equal(esd, _means(_start(model, "loss=esd", "loss.entropy_weight=1"), 4))


@pytest.mark.parametrize("loss", ["sds", "vsd", "esd"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_one_pass_gives_what_separate_calls_would(
    model: Path, monkeypatch: pytest.MonkeyPatch, loss: str, weight: float, scale: float
) -> None:
    """After training, so that the camera matters. No row is computed that is not needed."""
    keys = [f"loss={loss}", f"teacher.guidance_scale={scale}", "lora.lr=0.01"]
    run = _start(model, *keys, *[f"loss.entropy_weight={weight}"] * (loss == "esd"))
    _means(run, 4)
    cameras = run.config.cameras.sample(2, torch.Generator().manual_seed(0))
    noisy = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([30, 600])
    rows: list[int] = []
    eps = run.teacher.eps
    with monkeypatch.context() as patch:
        patch.setattr(run.teacher, "eps", lambda x, t, e: rows.append(len(x)) or eps(x, t, e))
        together = run.predictor.predict(
            Noised(noisy, noisy), t, cameras, run.config.loss.needs, run.recent
        )
    assert together.keys() == run.config.loss.needs
    branches = len(together.keys() - {"noise"}) + (scale != 1)
    assert rows == [2 * branches]

    plain = run.predictor.plain.expand(2, -1, -1)
    for name, hidden in (("lora", False), ("lora_null", True)):
        if name in together:
            assert run.lora is not None
            alone = run.lora.eps(noisy, t, plain, cameras.c2w, torch.tensor([hidden] * 2))
            torch.testing.assert_close(together[name], alone, atol=1e-5, rtol=1e-4)
    if {"lora", "lora_null"} <= together.keys():
        assert (together["lora"] - together["lora_null"]).abs().max() > 1e-3
    with torch.no_grad():
        c, u = (
            eps(noisy, t, plain),
            eps(noisy, t, run.predictor.guidance.negative.expand(2, -1, -1)),
        )
    torch.testing.assert_close(together["teacher"], u + scale * (c - u), atol=1e-4, rtol=1e-3)


def test_the_teacher_is_told_the_view_and_the_lora_is_not(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _start(model, "teacher.views.enabled=true", "loss=vsd")
    assert not torch.equal(run.predictor.guidance.positive[0], run.predictor.guidance.positive[2])
    cameras = run.config.cameras.turntable(4)
    asked = []
    eps = run.teacher.eps
    monkeypatch.setattr(run.teacher, "eps", lambda x, t, e: asked.append(e) or eps(x, t, e))
    noisy = torch.zeros(4, 4, 4, 4)
    run.predictor.predict(Noised(noisy, noisy), torch.full((4,), 9), cameras, run.config.loss.needs)
    views = [f"a red owl, {v} view" for v in ("front", "side", "back", "side")]
    assert torch.equal(asked[0], run.teacher.embed([*views, *["a red owl"] * 4]))


@pytest.mark.parametrize("loss", ["sds", "esd"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_perp_neg_in_one_pass_is_its_formula_on_separate_calls(
    model: Path, monkeypatch: pytest.MonkeyPatch, loss: str, scale: float
) -> None:
    """An overhead view has no negatives and no rows for them. At scale 1 it has a single row."""
    keys = ["teacher.views.enabled=true", "teacher.views.perp_neg.enabled=true"]
    run = _start(model, f"loss={loss}", f"teacher.guidance_scale={scale}", "lora.lr=0.01", *keys)
    _means(run, 2)
    azimuth, elevation = torch.tensor([30.0, 200.0, 10.0]), torch.tensor([10.0, 0.0, 80.0])
    ones = torch.ones(3)
    cameras = orbit_cameras(azimuth, elevation, 3 * ones, 40 * ones, IMAGE_SIZE)
    noisy = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([30, 600, 300])
    rows: list[int] = []
    eps = run.teacher.eps
    with monkeypatch.context() as patch:
        patch.setattr(run.teacher, "eps", lambda x, t, e: rows.append(len(x)) or eps(x, t, e))
        together = run.predictor.predict(
            Noised(noisy, noisy), t, cameras, run.config.loss.needs, run.recent
        )
    assert rows == [3 + (2 if scale == 1 else 3) + 2 * 2 + 3 * (loss == "esd")]

    front, side, back, overhead = run.predictor.guidance.positive
    mixed = [front / 1.5 + side / 3, side * (2 / 9) + back * (7 / 9), overhead]
    texts = [torch.stack(mixed), run.predictor.guidance.negative.expand(3, -1, -1)]
    texts += [front.expand(3, -1, -1), side.expand(3, -1, -1)]
    with torch.no_grad():
        c, u, *negatives = [eps(noisy, t, text) for text in texts]
    weights = run.config.teacher.views.avoided(azimuth, elevation)
    expected = perp_neg(c, u, torch.stack(negatives), weights, scale)
    torch.testing.assert_close(together["teacher"], expected, atol=1e-4, rtol=1e-3)
    assert (expected - guide(c, u, scale)).abs()[:2].amax((1, 2, 3)).min() > 1e-3
    torch.testing.assert_close(expected[2], guide(c, u, scale)[2])


@pytest.mark.parametrize(
    ("keys", "rows"),
    [
        # Rows of each pass for 2 views: first those of the inversion, then those of the loss.
        (["loss=csd"], [4]),
        (["loss=csd", "negative_prompt=blue"], [4]),
        (["loss={name: csd, negative: 1}", "negative_prompt=blue"], [6]),
        (["loss=nfsd"], [4]),
        (["loss=nfsd", "negative_prompt=blue"], [6]),
        (["loss=asd"], [4]),
        (["loss=asd", "teacher.guidance_scale=7.5"], [6]),
        (["loss={name: sdi, steps: 3}", "teacher.guidance_scale=7.5"], [4, 4, 4, 4]),
        (["loss={name: sdi, steps: 2, guidance_scale: 1}"], [2, 2, 2]),
        (["loss={name: ism, steps: 3}", "teacher.guidance_scale=7.5"], [2, 2, 2, 4]),
        (["loss={name: ism, steps: 2}", "negative_prompt=blue"], [2, 2, 2]),
        (["loss=sds", "timesteps.schedule=sqrt"], [2]),
        (["loss=sds", "teacher.guidance_scale=3", "teacher.guidance_rescale=0.7"], [4]),
        (["loss=esd", "loss.entropy_weight=0.5", "timesteps.schedule=dreamtime"], [6]),
    ],
    ids=str,
)
def test_a_step_asks_for_the_rows_that_its_loss_needs(
    model: Path, monkeypatch: pytest.MonkeyPatch, keys: list[str], rows: list[int]
) -> None:
    run = _start(model, *keys)
    asked: list[int] = []
    eps = run.teacher.eps
    monkeypatch.setattr(run.teacher, "eps", lambda x, t, e: asked.append(len(x)) or eps(x, t, e))
    before = run.scene.means.detach().clone()
    run.step()
    assert asked == rows
    for _ in range(2):
        run.step()
    assert not torch.equal(before, run.scene.means)


def test_inversion_without_the_prompt_is_with_the_empty_text(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told = _start(model, "loss={name: ism, steps: 2}", "negative_prompt=blue cat"), []
    eps = run.teacher.eps
    monkeypatch.setattr(run.teacher, "eps", lambda x, t, e: told.append(e) or eps(x, t, e))
    run.step()
    assert torch.equal(told[0], run.teacher.embed(["", ""]))


def test_later_and_empty_are_what_separate_calls_give(model: Path) -> None:
    run = _start(model, "loss=asd", "negative_prompt=blue cat", "teacher.views.enabled=true")
    cameras = run.config.cameras.turntable(2)
    clean, noise = torch.randn(2, 2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    t, later = torch.tensor([100, 500]), torch.tensor([110, 550])
    known = run.teacher.alphas_cumprod
    noised = Noised(add_noise(clean, noise, known, t), noise)
    needs = {"teacher_cond", "teacher_empty", "teacher_negative", "teacher_later"}
    found = run.predictor.predict(noised, t, cameras, needs)
    texts = [f"a red owl, {view} view" for view in ("front", "back")]
    for name, x, when, words in (
        ("teacher_cond", noised.noisy, t, texts),
        ("teacher_empty", noised.noisy, t, ["", ""]),
        ("teacher_negative", noised.noisy, t, ["blue cat"] * 2),
        ("teacher_later", add_noise(clean, noise, known, later), later, texts),
    ):
        alone = run.teacher.eps(x, when, run.teacher.embed(words))
        torch.testing.assert_close(found[name], alone.detach(), atol=1e-4, rtol=1e-3)


def test_the_image_loss_pulls_pixels_to_the_teachers_estimate(model: Path) -> None:
    """For SDS, this is what the teacher predicts from the noisy latents."""
    run = _start(model, "loss=sds", "image_loss=0.5", "timesteps.weight=uniform")
    assert run.step()["image"] > 0
    clean, noise, teacher = torch.randn(3, 2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([100, 500])
    images = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE, requires_grad=True)
    run._image_loss(images, clean, teacher - noise, t).backward()
    noisy = add_noise(clean, noise, run.teacher.alphas_cumprod, t)
    better = run.teacher.decode(run.teacher.predict_clean(noisy, teacher, t))
    assert images.grad is not None
    torch.testing.assert_close(images.grad, (images - better).detach() / 2, atol=1e-4, rtol=1e-3)


def test_the_clamp_limits_what_moves_the_scene(model: Path) -> None:
    """The clamped gradient is weighted by timestep, and its root mean square is at most c."""
    free = _start(model, "loss=sds", "teacher.guidance_scale=50")
    clamped = _start(
        model, "loss=sds", "teacher.guidance_scale=50", "clamp={start: 0.01, end: 0.02}"
    )
    assert free.step()["direction"] > 0.1
    assert clamped.step()["direction"] == pytest.approx(0.01, rel=0.1)
    assert clamped.step()["direction"] == pytest.approx(0.011, rel=0.1)


def test_a_checkpoint_without_some_random_numbers_is_one_line(model: Path) -> None:
    run = _start(model, "loss=sds")
    run.step()
    saved = run.state()
    Distillation(run.config, run.teacher, "reference", saved)
    del saved["generators"]["importance"]
    with pytest.raises(CheckpointError, match="has no state for the random numbers of importance"):
        Distillation(run.config, run.teacher, "reference", saved)


def test_backgrounds_are_plain_and_as_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(draw_backgrounds("grey", 2, generator), torch.full((2, 3), 0.5))
    colours = draw_backgrounds("random", 500, generator)
    assert colours.shape == (500, 3)
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert colours.std(0).min() > 0.25


def test_regularisers_reach_the_scene(model: Path) -> None:
    run = _start(model, "loss=sds", "regularise.opacity=1")
    assert "opacity" in run.step()
    before = run.scene.opacities.mean().item()
    for _ in range(9):
        run.step()
    assert run.scene.opacities.mean().item() < before
