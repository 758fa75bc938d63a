"""The report on a teacher: its arithmetic, its judge, and the files that it writes."""

import json
from pathlib import Path

import pytest
import torch

from esd_splat.figurines import COLOURS, HARD_KINDS, KINDS, trace
from esd_splat.figurines.training import report
from esd_splat.figurines.training.data import draw_azimuths
from esd_splat.figurines.training.looks import Looker, Looks, border_colour
from esd_splat.figurines.training.report import (
    PROMPTS,
    _recognised,
    histogram,
    judge_the_judge,
    main,
    poses,
    recipe_of,
    total_variation,
)
from esd_splat.figurines.training.sample import Sampler
from esd_splat.scene.cameras import Orbit, orbit_cameras
from tests.tiny import save_tiny

RECIPE = {
    "front_share": 0.7,
    "photos": 58,
    "unet_steps": 4,
    "unet_batch": 2,
    "gone_on_from": {"unet_steps": 3},
}


@pytest.fixture(scope="module")
def looker() -> Looker:
    return Looker(Orbit())


def test_bins_are_centred_on_the_front_and_go_round() -> None:
    azimuths = torch.tensor([0.0, -14.0, 14.0, 16.0, -16.0, 180.0, -180.0, 90.0])
    shares = (histogram(azimuths) * 8).tolist()
    assert shares == [3, 1, 0, 1, 0, 0, 2, 0, 0, 0, 0, 1]


def test_total_variation_of_known_distributions() -> None:
    assert total_variation(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])) == 1
    assert total_variation(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])) == 0.25


def test_a_teacher_that_draws_the_training_poses_is_apart_by_chance_alone() -> None:
    asked = torch.arange(64).repeat(32)
    azimuths = draw_azimuths(len(asked), 0.7, torch.Generator().manual_seed(0))
    nought = torch.zeros_like(asked)
    found = poses(Looks(nought, nought, azimuths, nought.float()), asked, 0.7)
    assert found["total_variation"] < 2 * found["total_variation_by_chance"] < 0.08
    assert found["within_45_of_front"] == pytest.approx(0.7, abs=0.03)
    assert len(found["kinds"]) == len(KINDS)

    front_only = poses(Looks(nought, nought, 0 * azimuths, nought.float()), asked, 0.7)
    assert front_only["total_variation"] > 0.5


def test_a_prompt_is_recognised_by_kind_and_colour() -> None:
    asked = torch.arange(64)
    kinds, colours = asked // 8, asked % 8
    wrong_colour = torch.where(asked == 3, (colours + 1) % 8, colours)
    looks = Looks(kinds, wrong_colour, torch.zeros(64), torch.zeros(64))
    found = _recognised(looks, asked, 3.0)
    assert found["kind_right"] == 1
    assert found["recognised"] == found["colour_right"] == pytest.approx(63 / 64, abs=1e-4)
    assert found["kinds"]["owl"] == 7 / 8
    assert PROMPTS[3] == ("owl", "green")
    assert found["prompts"]["a green owl"] == 0
    assert found["held_out_pairs"] == 1


def test_the_background_is_what_the_border_shows() -> None:
    images = torch.rand(3, 1, 1).expand(1, 3, 64, 64).clone()
    expected = images[0, :, 0, 0].clone()
    images[:, :, 2:-2, 20:40] = 0.5
    torch.testing.assert_close(border_colour(images)[0], expected)


def test_the_judge_knows_true_photographs(looker: Looker) -> None:
    found = judge_the_judge(looker, 150, seed=1)
    assert found["recognised"] == 1
    assert found["view_right"] > 0.95
    assert found["azimuth_off_deg_median"] < 4
    assert found["azimuth_off_beyond_15_deg_hard_kinds"] < 0.1


@pytest.mark.parametrize("kind", HARD_KINDS)
def test_the_judge_tells_front_from_back_of_the_hard_kinds(looker: Looker, kind: str) -> None:
    azimuth, one = torch.tensor([3.0, 93.0, 183.0, 267.0]), torch.ones(4)
    cameras = orbit_cameras(azimuth, 7 * one, 3.2 * one, 40 * one, 64)
    images = trace(kind, "blue", cameras.viewmats, cameras.Ks, 64, torch.rand(4, 3))
    looks = looker.look(images)
    assert looks.kinds.tolist() == 4 * [KINDS.index(kind)]
    assert looks.colours.tolist() == 4 * [list(COLOURS).index("blue")]
    assert ((looks.azimuth_deg - azimuth + 180) % 360 - 180).abs().max() < 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion import StableDiffusionPipeline
    from transformers import CLIPTextModel, CLIPTokenizer

    from esd_splat.figurines.training.networks import make_scheduler

    tiny, model = save_tiny(tmp_path_factory.mktemp("tiny")), tmp_path_factory.mktemp("model")
    StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(tiny / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(tiny / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(tiny / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(tiny / "unet"),
        scheduler=make_scheduler(),  # pyright: ignore[reportArgumentType]
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    ).save_pretrained(model)
    (model / "vocabulary.json").write_text(json.dumps({"recipe": RECIPE}))
    return model


def test_samples_depend_on_the_seed_and_not_on_the_batch(model: Path) -> None:
    prompts = ["a red owl", "a blue cat", "a red cat"]
    one = Sampler(model, steps=2, batch=3, device="cpu").draw(prompts, 3.0, seed=1)
    two = Sampler(model, steps=2, batch=2, device="cpu").draw(prompts, 3.0, seed=1)
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)
    other = Sampler(model, steps=2, batch=3, device="cpu").draw(prompts, 3.0, seed=2)
    assert (one - other).abs().max() > 0.01
    assert one.min() >= 0
    assert one.max() <= 1


@pytest.mark.slow
def test_the_report_is_left_beside_the_weights(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(model), "--samples", "1", "--steps", "1", "--batch", "64"]
    monkeypatch.setattr(report, "CHECKED", 20)
    assert main(arguments) == 0
    measured = json.loads((model / "measured.json").read_text())
    assert measured["judge"]["recognised"] == 1
    assert measured["guided"]["guidance_scale"] == 3.0
    assert set(measured["view_words"]) == {"3", "1"}
    for drawn in measured["view_words"]["3"]["drawn"].values():
        assert sum(drawn.values()) == pytest.approx(1, abs=1e-3)
    text = (model / "README.md").read_text()
    assert measured["command"] in text
    assert "held out: a purple owl" in text
    assert "4 steps of 2 of 58 photographs, 70%" in text
    assert "weights that had had 3 steps" in text
    assert (model / "samples.png").stat().st_size > 0
    assert "recognised" in capsys.readouterr().out


def test_a_folder_without_a_model_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(tmp_path)]) == 2
    assert "no model_index.json" in capsys.readouterr().err


def test_the_bias_is_read_from_the_recipe(model: Path) -> None:
    assert recipe_of(model)["front_share"] == 0.7
