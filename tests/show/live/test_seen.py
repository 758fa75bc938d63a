"""What the page shows of a run says of it what is true."""

import math

import pytest
import torch

from esd_splat.config import Config, load_config
from esd_splat.distill.distillation import Distillation, Seen
from esd_splat.run.measure import pose_entropies
from esd_splat.run.measure.truth import templates
from esd_splat.scene.gaussians import Gaussians
from esd_splat.show.live.seen import PIXELS, VIEWS, entropies, explained, pictures, prepare
from esd_splat.teacher.noise import add_noise
from esd_splat.teacher.stable_diffusion import EMBEDDED_FOLDER
from tests.show.live import worlds
from tests.tiny import save_tiny

Begun = tuple[Config, Distillation]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    folder = tmp_path_factory.mktemp("tiny")
    return worlds.begun(worlds.config(save_tiny(folder / "model"), folder / "run"))


@pytest.fixture(scope="module")
def owl() -> Begun:
    """The embedded teacher, whose truth is known, and one step of a scene of its size."""
    return worlds.begun(load_config("esd", ["prompt=a red owl", "init.count=200"]))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    """The embedded teacher without the list of what it knows: as good as a stranger."""
    folder = tmp_path_factory.mktemp("foreign")
    for part in EMBEDDED_FOLDER.iterdir():
        if part.name != "vocabulary.json":
            (folder / part.name).symlink_to(part)
    return worlds.begun(load_config("esd", ["prompt=a red owl", f"teacher.model={folder}"]), 0)


def _spoke() -> Gaussians:
    """A red dot that only half of the views see before the green one."""
    logits = torch.full((2,), 8.0)
    colours = torch.tensor([[[1.0, -1, -1]], [[-1.0, 1, -1]]])
    return Gaussians(
        means=torch.tensor([[0.0, 0, 0.6], [0.0, 0, -0.6]]),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(2, 1),
        log_scales=torch.full((2, 3), -1.2),
        opacity_logits=logits,
        sh0=colours,
        shN=torch.zeros(2, 0, 3),
    )


def _ball() -> Gaussians:
    """The same from everywhere but for above."""
    spoke = _spoke()
    return Gaussians(**{n: v[:1] for n, v in (vars(spoke) | {"means": torch.zeros(2, 3)}).items()})


def test_a_row_of_pictures_for_each_prediction(started: Begun) -> None:
    _, run = started
    assert run.seen is not None
    found = pictures(run, run.seen)
    assert list(found) == ["views", "teacher", "LoRA", "LoRA, camera dropped"]
    for images in found.values():
        assert images.shape == (VIEWS, 3, PIXELS, PIXELS)
        assert 0 <= images.min() <= images.max() <= 1


def test_a_prediction_of_the_drawn_noise_is_the_view_again(owl: Begun) -> None:
    """As the autoencoder gives it back."""
    config, run = owl
    views = run.views(config.cameras.turntable(VIEWS), torch.ones(VIEWS, 3))
    clean = run.teacher.encode(views)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([300, 600])
    noisy = add_noise(clean, noise, run.teacher.alphas_cumprod, t)
    found = pictures(run, Seen(views, noisy, t, {"teacher": noise, "noise": noise}))
    assert list(found) == ["views", "teacher"]
    assert (found["teacher"] - found["views"]).abs().mean() < 0.03


def test_entropies_of_figurines_are_their_pose_measures(owl: Begun) -> None:
    config, run = owl
    found = entropies(run, run.scene.map(torch.Tensor.detach), config)
    measured = pose_entropies(run.views, config.prompt, config.measure, config.cameras)
    assert measured is not None
    assert found == {name: measured[name] for name in ("IV", "IQ")}
    assert 0 < found["IQ"] <= found["IV"] <= math.log(16)
    assert "2.77 if they show every side" in explained(config, found)


def test_elsewhere_entropy_is_what_views_tell_about_their_camera(foreign: Begun) -> None:
    config, run = foreign
    same, differing = (entropies(run, scene, config) for scene in (_ball(), _spoke()))
    assert list(same) == ["I"]
    assert 0 <= same["I"] < 0.01
    assert 0.5 < differing["I"] <= math.log(config.measure.views)
    assert "figurines only" in explained(config, same)


def test_looking_draws_nothing_at_random_from_anybody(started: Begun) -> None:
    config, run = started
    states = [g.get_state() for g in (torch.default_generator, *run.generators.values())]
    assert entropies(run, _spoke(), config) == entropies(run, _spoke(), config)
    assert run.seen is not None
    pictures(run, run.seen)
    after = [g.get_state() for g in (torch.default_generator, *run.generators.values())]
    assert all(a.equal(b) for a, b in zip(states, after, strict=True))


def test_what_is_prepared_is_what_will_be_needed(owl: Begun) -> None:
    config, run = owl
    prepare(config)
    traced = templates.cache_info().misses
    entropies(run, run.scene.map(torch.Tensor.detach), config)
    assert templates.cache_info().misses == traced


def test_nothing_is_prepared_where_there_is_no_truth(started: Begun) -> None:
    traced = templates.cache_info().misses
    prepare(started[0])
    assert templates.cache_info().misses == traced
