"""The command that trains the embedded teacher: its data, its encoder, and resuming."""

import json
import random
from pathlib import Path

import pytest
import torch

from esd_splat.figurines import HELD_OUT, KINDS, VOCABULARY
from esd_splat.figurines.training import train
from esd_splat.figurines.training.data import (
    PAIRS,
    Photos,
    draw_azimuths,
    photograph,
    view_of,
    write_captions,
)
from esd_splat.figurines.training.networks import LATENT_CHANNELS, make_vae
from esd_splat.teacher import StableDiffusion


@pytest.mark.parametrize("share", [0.4, 0.7, 0.9])
def test_cameras_have_the_bias_they_were_given(share: float) -> None:
    azimuth = draw_azimuths(200_000, share, torch.Generator().manual_seed(0))
    wrapped = (azimuth + 180) % 360 - 180
    assert (wrapped.abs() < 45).double().mean().item() == pytest.approx(share, abs=0.004)
    assert (wrapped > 0).double().mean().item() == pytest.approx(0.5, abs=0.004)


def test_views_are_named_by_quarter() -> None:
    names = [view_of(a) for a in (0, 44, -44, 316, 46, 134, -90, 136, 180, -150, 540)]
    assert names == [*["front"] * 4, *["side"] * 3, *["back"] * 4]


def test_held_out_pairs_are_never_shown() -> None:
    assert not HELD_OUT & set(PAIRS)
    assert {kind for kind, _ in PAIRS} == set(KINDS)


def test_captions_use_the_vocabulary_only_and_name_the_right_view() -> None:
    pairs = torch.arange(len(PAIRS)).repeat(20)
    azimuth = torch.linspace(-180, 180, len(pairs))
    photos = Photos(torch.zeros(len(pairs), 3, 1, 1, dtype=torch.uint8), pairs, azimuth)
    captions = write_captions(photos, torch.arange(len(pairs)), 0.1, random.Random(0))
    empty = captions.count("") / len(captions)
    named = [c.endswith("view") for c in captions]
    assert empty == pytest.approx(0.1, abs=0.03)
    assert sum(named) / len(named) == pytest.approx(0.27, abs=0.04)
    for words, a in zip(captions, azimuth.tolist(), strict=True):
        assert set(words.replace(",", " ,").split()) <= set(VOCABULARY)
        assert not words.endswith("view") or words.split()[-2] == view_of(a)


def test_the_encoder_is_the_principal_components_of_patches() -> None:
    """By comparison with an SVD, whose best 12 components reconstruct no more."""
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    vae = make_vae(images)
    with torch.no_grad():
        latents = vae.encoder(2 * images - 1).double()
    assert latents.shape == (6, LATENT_CHANNELS, 16, 16)
    patches = torch.nn.functional.pixel_unshuffle(images.double(), 4).movedim(1, -1).reshape(-1, 48)
    centred = patches - patches.mean(0)
    codes = latents.movedim(1, -1).reshape(-1, LATENT_CHANNELS)
    assert codes.mean(0).abs().max() < 1e-4
    kept = torch.linalg.lstsq(codes, centred).solution
    residue = (centred - codes @ kept).square().sum()
    best = torch.linalg.svdvals(centred)[LATENT_CHANNELS:].square().sum()
    torch.testing.assert_close(residue, best, rtol=1e-4, atol=0)
    correlation = torch.corrcoef(codes.mT) - torch.eye(LATENT_CHANNELS)
    assert correlation.abs().max() < 1e-3
    scaled = latents * vae.config["scaling_factor"]
    assert scaled.std().item() == pytest.approx(1, abs=1e-3)


class _Cut(Exception):
    pass


def test_a_cut_training_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = train.Recipe(photos=58, unet_steps=4, unet_batch=2, decoder_steps=2, decoder_batch=2)
    photos = photograph(recipe.photos, recipe.front_share, recipe.seed)
    monkeypatch.setattr(train, "SAVE_EVERY", 2)

    def fit(work: Path) -> dict[str, torch.Tensor]:
        work.mkdir(exist_ok=True)
        run = train.Training(recipe, photos, work, "cpu", None)
        run.fit_unet()
        run.fit_decoder()
        run.save(work / "model")
        return {**run.unet.state_dict(), **run.vae.state_dict(), **run.text.state_dict()}

    whole = fit(tmp_path / "whole")
    update, calls = train._Learner.update, []

    def cut(*args: object) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise _Cut
        update(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(train._Learner, "update", cut)
    with pytest.raises(_Cut):
        fit(tmp_path / "cut")
    monkeypatch.setattr(train._Learner, "update", update)
    resumed = fit(tmp_path / "cut")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)

    model = tmp_path / "whole" / "model"
    about = json.loads((model / "vocabulary.json").read_text())
    assert about["recipe"]["photos"] == 58
    further = train.Training(recipe, photos, tmp_path / "whole", "cpu", init=model)
    assert further.before == about["recipe"]
    assert further.unet.dtype == torch.float32, "saved weights come back in half"
    name, saved = next(iter(whole.items()))
    torch.testing.assert_close(further.unet.state_dict()[name], saved.half().float())
    config = StableDiffusion(model=str(model))
    config.check({"prompt": "a red owl, front view"})
    teacher = config.load(torch.device("cpu"), torch.float32)
    assert teacher.encode(torch.rand(1, 3, 64, 64)).shape == (1, LATENT_CHANNELS, 16, 16)
    assert teacher.embed(["a red owl"]).shape == (1, 12, 64)


def test_a_work_folder_belongs_to_one_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise its weights would be saved under another recipe."""

    def start(*more: str) -> int:
        asked = ["--out", str(tmp_path / "model"), "--work", str(tmp_path / "work")]
        return train.main([*asked, *more])

    def cut(*args: object) -> None:
        raise _Cut

    monkeypatch.setattr(train, "photograph", cut)
    for _ in range(2):
        with pytest.raises(_Cut):
            start("--photos", "58")
    assert start("--photos", "58", "--seed", "7", "--init", "model") == 2
    assert "was begun with other seed, init; choose another" in capsys.readouterr().err
    (tmp_path / "work" / "recipe.json").rename(tmp_path / "work" / "photos.pt")
    assert start("--photos", "58") == 2
    assert "was begun with other seed, front_share, photos" in capsys.readouterr().err


def test_a_share_that_photographers_cannot_reach_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--out", str(tmp_path / "model"), "--work", str(tmp_path / "work")]
    assert train.main([*asked, "--front-share", "0.1"]) == 2
    assert capsys.readouterr().err == "train: front_share: must be in [0.25, 0.95], got 0.1\n"
    assert not any(tmp_path.iterdir())
