"""Diagnoses against exact predictions made another way, and that looking changes nothing."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from esd_splat.config import Config, load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.pool import Pool
from esd_splat.distill.predictions import Noised
from esd_splat.distill.step_config import StepConfig
from esd_splat.run import diagnostics, trainer
from esd_splat.run.diagnostics import NODES, diagnose
from esd_splat.scene.cameras import Cameras, orbit_cameras
from esd_splat.scene.rasterize import rasterize
from tests.run.measure import worlds
from tests.tiny import IMAGE_SIZE, save_tiny

LEVELS, AZIMUTHS, DRAWN = (0.2, 0.7), 6, 8
BACKGROUNDS = torch.cartesian_prod(*[torch.tensor(NODES)] * 3)
OF_LORA = {"camera_error", "camera_error_shuffled", "null_error", "pool_error"}
OF_ESD = {"gap", "gap_cosine", "entropy_share", "entropy_share_exact"}
WEIGHTS = {"camera_weight", "effective_weight"}
ALWAYS = {
    *("step", "t", "camera_error_teacher", "null_error_teacher", "gap_exact", "view_information")
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The laws are those of any number of views, and the tests should not take minutes."""
    sizes = {"LEVELS": LEVELS, "AZIMUTHS": AZIMUTHS, "DRAWN": DRAWN, "CHUNK": 3}
    for name, value in sizes.items():
        monkeypatch.setattr(diagnostics, name, value)


def _keys(model: Path, *more: str) -> list[str]:
    keys = ["prompt=a red owl", f"teacher.model={model}", f"cameras.size={IMAGE_SIZE}", "batch=2"]
    return [*keys, "steps=10", "init.count=20", "lora.rank=2", "lora.lr=0.01", *more]


def _start(model: Path, *more: str, steps: int = 0) -> tuple[Distillation, Config]:
    config = load_config(None, _keys(model, *more))
    teacher = config.teacher.load(torch.device("cpu"), torch.float32)
    run = Distillation(StepConfig.of(config), teacher, "reference")
    for _ in range(steps):
        run.step()
    return run, config


@torch.no_grad()
def _views(run: Distillation, config: Config) -> tuple[Cameras, Tensor]:
    """The grid again, drawn over each background instead of put together."""
    low, high = config.cameras.elevation
    raised = [low + (high - low) * node for node in NODES]
    azimuth = torch.arange(AZIMUTHS).double().repeat_interleave(2) * 360 / AZIMUTHS
    elevation = torch.tensor(raised).double().repeat(AZIMUTHS)
    one = torch.ones(len(azimuth)).double()
    cameras = orbit_cameras(azimuth, elevation, 3.2 * one, 40 * one, IMAGE_SIZE)
    latents = [
        run.teacher.encode(
            rasterize(
                run.scene,
                Cameras(viewmat.repeat(8, 1, 1), K.repeat(8, 1, 1), IMAGE_SIZE, IMAGE_SIZE),
                BACKGROUNDS,
                "reference",
            ).images
        )
        for viewmat, K in zip(cameras.viewmats.split(1), cameras.Ks.split(1), strict=True)
    ]
    return cameras, torch.stack(latents).double()


def _exact(run: Distillation, config: Config) -> Callable[..., dict[str, Tensor]]:
    """Stands in for ``predict``: what a perfect LoRA would say, by the pool's closed form."""
    cameras, points = _views(run, config)
    pool, known = Pool(bandwidth=0.0), run.teacher.alphas_cumprod.double()
    predict = run.predictor.predict

    def exact(noised: Noised, t: Tensor, seen: Cameras, *more: Any) -> dict[str, Tensor]:
        own = (seen.viewmats[:, None] - cameras.viewmats).abs().sum((2, 3)).argmin(1)
        wide = noised.noisy.double()
        each = zip(points[own], wide.split(1), t.split(1), strict=True)
        return predict(noised, t, seen, *more) | {
            "lora": torch.cat([pool.eps(views, x, known, u) for views, x, u in each]),
            "lora_null": pool.eps(points.flatten(0, 1), wide, known, t),
        }

    return exact


def test_a_perfect_lora_has_no_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, config = _start(model, "loss.entropy_weight=0.5", steps=3)
    monkeypatch.setattr(run.predictor, "predict", _exact(run, config))
    rows = diagnose(run, config)
    assert [row["t"] for row in rows] == list(LEVELS)
    for row in rows:
        assert row["camera_error"] == pytest.approx(0, abs=1e-9)
        assert row["null_error"] == pytest.approx(0, abs=1e-9)
        assert row["gap"] == pytest.approx(row["gap_exact"], rel=1e-3, abs=1e-9)
        assert row["entropy_share"] == pytest.approx(row["entropy_share_exact"], rel=1e-3, abs=1e-4)
        assert 0 < row["view_information"] < math.log(2 * AZIMUTHS)
        assert row["null_error_teacher"] > 0.01, "of a random network"
    assert max(row["gap_exact"] for row in rows) > 1e-4, "or the test shows nothing"
    widest = max(rows, key=lambda row: row["gap_exact"])
    assert widest["gap_cosine"] == pytest.approx(1, abs=1e-3)


def test_an_untrained_lora_is_the_teacher(model: Path) -> None:
    for row in diagnose(*_start(model)):
        assert row["camera_error"] == pytest.approx(row["camera_error_teacher"], rel=1e-5)
        assert row["null_error"] == pytest.approx(row["null_error_teacher"], rel=1e-5)
        assert row["gap"] == pytest.approx(0, abs=1e-10)
    trained = diagnose(*_start(model, "lora.warmup=0", steps=3))[0]
    assert trained["camera_error"] != pytest.approx(trained["camera_error_teacher"], rel=1e-4)


def test_a_scene_that_cannot_be_seen_tells_nothing_of_its_cameras(model: Path) -> None:
    run, config = _start(model)
    run.scene.opacity_logits.data.fill_(-20)
    for row in diagnose(run, config):
        assert row["view_information"] == pytest.approx(0, abs=1e-6)
        assert row["gap_exact"] == pytest.approx(0, abs=1e-9)
        assert row["entropy_share_exact"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("more", "columns", "weights"),
    [
        (["loss=sds"], set(), set()),
        (["loss=vsd"], OF_LORA, WEIGHTS),
        (["loss.entropy_weight=0"], OF_LORA | OF_ESD, WEIGHTS),
        (["loss.entropy_weight=1"], OF_LORA | OF_ESD, WEIGHTS),
        (
            ["loss.entropy_weight=1", "loss.marginal=pool"],
            OF_ESD | {"pool_error"},
            WEIGHTS - {"camera_weight"},
        ),
        (
            ["loss.entropy_weight=0.5", "loss.marginal=pool", "loss.camera=noise"],
            OF_ESD | {"pool_error"},
            WEIGHTS,
        ),
        (
            ["loss.entropy_weight=0.5", "loss.marginal=pool"],
            OF_LORA | OF_ESD,
            WEIGHTS,
        ),
    ],
)
def test_what_a_run_has_not_is_left_out(
    model: Path, more: list[str], columns: set[str], weights: set[str]
) -> None:
    for row in diagnose(*_start(model, "background=grey", *more, steps=1)):
        assert row.keys() - WEIGHTS == ALWAYS | columns
        assert row["gap_exact"] > 0
        assert row.keys() & WEIGHTS == weights


def test_no_entropy_weight_is_no_share_and_no_pool_yet_no_error_of_it(model: Path) -> None:
    rows = diagnose(*_start(model, "loss.entropy_weight=0"))
    assert {row["entropy_share"] for row in rows} == {0}
    rows = diagnose(*_start(model, "loss.entropy_weight=1", "loss.marginal=pool"))
    assert all(row.keys() - WEIGHTS == ALWAYS for row in rows)


def test_the_effective_weights_of_exact_predictions(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 for the exact score given the camera, so the whole weight is what was asked for. The other
    camera's prediction is worse."""
    for weight in (0.0, 0.5, 1.0):
        run, config = _start(model, f"loss.entropy_weight={weight}", steps=3)
        monkeypatch.setattr(run.predictor, "predict", _exact(run, config))
        for row in diagnose(run, config):
            if row["gap_exact"] < 1e-4:
                continue
            assert row["camera_weight"] == pytest.approx(0, abs=1e-3)
            assert row["effective_weight"] == pytest.approx(weight, abs=1e-3)
            assert row["camera_error_shuffled"] > row["camera_error"] + row["gap_exact"]


def test_whatever_ignores_the_camera_has_an_effective_weight_of_one() -> None:
    """Two cameras see one value each, so both exact scores are known."""
    generator = torch.Generator().manual_seed(0)
    side = torch.randint(2, (200_000,), generator=generator).double() * 2 - 1
    noise = torch.randn(len(side), generator=generator, dtype=torch.float64)
    noisy = 0.6 * side + 0.8 * noise
    null = (noisy - 0.6 * torch.tanh(0.6 * noisy / 0.8**2)) / 0.8

    def weight(found: Tensor, free: Tensor) -> float:
        shaped = (x.view(-1, 1, 1, 1) for x in (found, free, noise - null))
        return diagnostics._effective_weight(*shaped)

    ignoring = (null, torch.zeros_like(noisy), 3 * noisy.sin(), noisy + noisy**2)
    for found in ignoring:
        assert weight(found, null) == pytest.approx(1, abs=0.03)
    for free in ignoring:
        assert weight((noise + null) / 2, free) == pytest.approx(0.5, abs=0.03)
        assert weight((noise - null) / 2 + free, free) == pytest.approx(0.5)
        assert weight(noise, free) == pytest.approx(0, abs=0.03)


def test_the_share_by_hand() -> None:
    """w (camera - marginal) is 0.5 * 2 and teacher - camera is 3."""
    teacher, camera, marginal = (torch.full((1, 1, 2, 2), value) for value in (4.0, 1.0, -1.0))
    assert diagnostics._entropy_share(0.5, teacher, camera, marginal) == pytest.approx(1 / 4)
    assert diagnostics._entropy_share(0.5, camera, camera, camera) == 0


def test_at_one_background_a_view_is_a_point(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a perfect LoRA that is told the camera predicts the noise that was drawn."""
    run, config = _start(model, "loss=vsd", "background=white")
    cameras, grid = diagnostics._look_around(run, config)
    assert grid.shape[:2] == (len(cameras), 1) == (2 * AZIMUTHS, 1)
    predict = run.predictor.predict
    monkeypatch.setattr(
        run.predictor, "predict", lambda x, *rest: predict(x, *rest) | {"lora": x.noise}
    )
    for row in diagnose(run, config):
        assert row["camera_error"] == pytest.approx(0, abs=1e-9)


def test_elevations_that_agree_are_one(model: Path) -> None:
    cameras, _ = diagnostics._look_around(*_start(model, "cameras.elevation=[10, 10]"))
    assert len(cameras) == AZIMUTHS
    torch.testing.assert_close(cameras.elevation_deg, torch.full((AZIMUTHS,), 10.0))


def test_views_are_encoded_as_those_of_the_latest_step_were(model: Path) -> None:
    run, config = _start(model, "latent_warmup=0.3", "background=black", steps=3)
    assert run.linear is not None
    cameras, grid = diagnostics._look_around(run, config)
    shown = run.views(cameras, torch.zeros(len(cameras), 3))
    torch.testing.assert_close(grid.flatten(0, 1), run.linear.encode(shown))
    run.step()
    shown = run.views(cameras, torch.zeros(len(cameras), 3))
    _, grid = diagnostics._look_around(run, config)
    torch.testing.assert_close(grid.flatten(0, 1), run.teacher.encode(shown), atol=1e-5, rtol=1e-4)


def test_the_teachers_own_view_is_counted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"words": ["a", "red", "owl", ","], "kinds": ["owl"], "colours": ["red"]}
    run, config = _start(save_tiny(tmp_path / "model"))
    assert "teacher_front" not in diagnose(run, config)[0], "no teacher of figurines"
    (tmp_path / "model" / "vocabulary.json").write_text(json.dumps(words))
    front = worlds.looking_like(torch.zeros(1).double())
    monkeypatch.setattr(run.teacher, "decode", lambda latents: front.repeat(len(latents), 1, 1, 1))
    for row in diagnose(run, config):
        assert (row["teacher_front"], row["teacher_side"], row["teacher_back"]) == (1, 0, 0)


def test_a_diagnosis_is_a_function_of_the_state(model: Path) -> None:
    (run, config), (other, _) = _start(model, steps=2), _start(model, steps=2)
    before = torch.get_rng_state()
    assert diagnose(run, config) == diagnose(run, config)
    assert torch.equal(before, torch.get_rng_state())
    assert run.step() == other.step()
    assert torch.equal(run.scene.means, other.scene.means)
    assert diagnostics._seed(0, 1) != diagnostics._seed(0, 2) != diagnostics._seed(1, 2)
    assert 0 <= diagnostics._seed(2**28, 10**9) < 2**32


def test_diagnosed_runs_make_the_same_scene_and_resume_to_the_same_numbers(
    model: Path, tmp_path: Path
) -> None:
    def run(name: str, *more: str, until: int | None = None) -> Path:
        plain = ("export.frames=0", "export.report=false")
        keys = _keys(model, f"out={tmp_path / name}", *plain, *more)
        trainer.run(load_config(None, keys), quiet=True, until=until)
        return tmp_path / name

    plain, whole = run("plain"), run("whole", "log.diagnose_every=4")
    run("cut", "log.diagnose_every=4", until=5)
    cut = run("cut", "log.diagnose_every=4", "resume=true")
    assert not (plain / "diagnostics.csv").exists()
    for folder in (whole, cut):
        assert (folder / "scene.ply").read_bytes() == (plain / "scene.ply").read_bytes()
    text = (whole / "diagnostics.csv").read_text()
    assert (cut / "diagnostics.csv").read_text() == text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["step"], row["t"]) for row in rows] == [
        (str(step), f"{t:g}") for step in (4, 8, 10) for t in LEVELS
    ]
    assert rows[0].keys() - WEIGHTS == ALWAYS | OF_LORA | OF_ESD
    run("whole", "overwrite=true")
    assert not (whole / "diagnostics.csv").exists()
