"""The teacher as a judge: its rule on made-up errors, and every kind of teacher."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from esd_splat.errors import PromptError
from esd_splat.run.measure.judges import SIDES, Judge, TeacherJudge, agreement, surfaces
from esd_splat.run.measure.judges.teacher import side_probabilities
from esd_splat.teacher import StableDiffusion, Teacher
from esd_splat.teacher.noise import add_noise
from esd_splat.teacher.random_weights import save_blank
from tests.run.measure.worlds import looking_like
from tests.tiny import IMAGE_SIZE

CPU = torch.device("cpu")
QUICK = TeacherJudge(levels=(0.5, 0.9), draws=1)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=_generator())


def _loaded(folder: Path, judge: TeacherJudge = QUICK) -> tuple[Judge, Teacher]:
    config = StableDiffusion(model=str(folder))
    teacher = config.load(CPU, torch.float32)
    return judge.load(teacher, config), teacher


@pytest.fixture(scope="module")
def embedded() -> tuple[StableDiffusion, Teacher]:
    config = StableDiffusion()
    return config, config.load(CPU, torch.float32)


def test_probabilities_by_hand() -> None:
    """Differences -0.3, 0, 0.3 and -0.1, 0, 0.1 have means -0.2, 0, 0.2.

    Their deviations are 0.1 four times, so the spread is 0.04 / 2 and the error of a mean of two
    is 0.1. The logarithms are 2, 0 and -2.
    """
    errors = torch.tensor([[[7.0, 10.0, 13.0], [0.9, 1.0, 1.1]]])
    torch.testing.assert_close(
        side_probabilities(errors), torch.tensor([[2.0, 0.0, -2.0]]).softmax(1)
    )


def test_levels_count_alike() -> None:
    errors = 1 + 0.1 * torch.rand(2, 6, 3, generator=_generator())
    louder = errors * torch.tensor([1e-3, 1, 1, 30, 1, 1e4])[:, None]
    torch.testing.assert_close(side_probabilities(louder), side_probabilities(errors))


def test_words_that_make_no_difference_leave_all_sides_equal() -> None:
    errors = torch.rand(2, 6, 1, generator=_generator()).expand(-1, -1, 3)
    torch.testing.assert_close(side_probabilities(errors), torch.full((2, 3), 1 / 3))


@pytest.mark.parametrize("kind", ["tiny-sd", "tiny-sdxl", "tiny-sd3", "tiny-views"])
def test_every_kind_of_teacher_can_be_asked(kind: str, tmp_path: Path) -> None:
    judge, _ = _loaded(save_blank(tmp_path / "model", kind))
    shares = judge.sides(_images(), "a red owl", _generator())
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
    assert (shares.amax(1) - shares.amin(1)).min() > 1e-3, "the words make no difference"
    torch.testing.assert_close(judge.sides(_images(), "a red owl", _generator()), shares)


def test_a_multi_view_teacher_sees_each_image_alone(tmp_path: Path) -> None:
    judge, teacher = _loaded(save_blank(tmp_path / "model", "tiny-views"))
    assert teacher.joint
    first, second = _images(2).split(1)
    alone = judge.sides(first, "a red owl", _generator())
    generator = _generator()
    # The same noises for the first of two images: each level draws for both together.
    noises = [torch.randn(1, *teacher.latent_shape, generator=generator) for _ in range(2)]
    drawn = iter([torch.cat([noise, noise]) for noise in noises])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", lambda *_, **__: next(drawn))
        both = judge.sides(torch.cat([first, second]), "a red owl", _generator())
    # With two noises, rounding is magnified. A view that sees the other one is off by much more.
    torch.testing.assert_close(both[:1], alone, atol=2e-3, rtol=0)


@torch.no_grad()
def test_the_errors_are_those_of_the_teachers_view_words(model: Path) -> None:
    """Worked out again, word by word, with the same noise for all sides."""
    judge, teacher = _loaded(model)
    images, generator = _images(1), _generator()
    clean, errors = teacher.encode(images), []
    for level in QUICK.levels:
        t = torch.tensor([int(level * len(teacher.alphas_cumprod))])
        noise = torch.randn(clean.shape, generator=generator)
        noisy = add_noise(clean, noise, teacher.alphas_cumprod, t)
        texts = [teacher.embed([f"a red owl, {side} view"]) for side in SIDES]
        errors.append([(teacher.eps(noisy, t, text) - noise).square().sum() for text in texts])
    expected = side_probabilities(torch.tensor(errors)[None])
    found = judge.sides(images, "a red owl", _generator())
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_asking_leaves_the_global_generator_alone(model: Path) -> None:
    judge, _ = _loaded(model)
    before = torch.random.get_rng_state()
    judge.sides(_images(), "a red owl", _generator())
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("missing", ["owl", "back"])
def test_words_that_the_teacher_does_not_know(
    missing: str, embedded: tuple[StableDiffusion, Teacher], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, teacher = embedded
    known: Any = config.vocabulary
    fewer = known | {"words": [word for word in known["words"] if word != missing]}
    monkeypatch.setattr(StableDiffusion, "vocabulary", property(lambda self: fewer))
    with pytest.raises(PromptError, match=f"judge .* does not know '{missing}'") as caught:
        QUICK.load(teacher, config).sides(_images(1), "a red owl", _generator())
    assert "\n" not in str(caught.value)


def test_one_noise_says_nothing_about_its_error() -> None:
    with pytest.raises(ValueError, match="at least 2 noises"):
        TeacherJudge(levels=(0.9,), draws=1)


def test_the_embedded_teacher_knows_the_front_and_the_back_of_an_owl(
    embedded: tuple[StableDiffusion, Teacher],
) -> None:
    """Whether its prompts for scenes have view words does not matter."""
    config, teacher = embedded
    seen = looking_like(torch.tensor([0.0, 90.0, 180.0], dtype=torch.float64)).float()
    judge = TeacherJudge().load(teacher, config)
    shares = judge.sides(seen, "a red owl", _generator())
    assert shares.argmax(1).tolist() == [0, 1, 2]
    assert min(shares[0, 0], shares[2, 2]) > 0.8
    worded = replace(config, views=replace(config.views, enabled=True))
    again = TeacherJudge().load(teacher, worded).sides(seen, "a red owl", _generator())
    torch.testing.assert_close(again, shares)


def test_the_embedded_teacher_is_trusted_on_colours_and_not_on_normals(
    embedded: tuple[StableDiffusion, Teacher],
) -> None:
    """It was trained on nothing but colours, so a surface without paint is foreign to it."""
    judge = TeacherJudge(draws=1).load(embedded[1], embedded[0])
    assert agreement(judge, pictures=24).trusted
    assert not agreement(judge, pictures=16, photographer=surfaces).trusted
