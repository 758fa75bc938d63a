"""Every adversary scores as what it is."""

import json
import math

import pytest
import torch

from esd_splat.config import Measure
from esd_splat.figurines import COLOURS, KINDS, trace
from esd_splat.run.measure import MEASURES, measure_scene, measure_views, pose_entropies
from esd_splat.run.measure.truth import TEMPLATE_SIZE, templates
from esd_splat.scene.cameras import Cameras, Orbit
from tests.run.measure import worlds

BOUND = math.log(worlds.VIEWS)


def _measure(images: torch.Tensor, kind: str = "owl", colour: str = "red") -> dict:
    found = measure_views(images, worlds.GREY, kind, colour, Orbit())
    text = json.dumps(found, allow_nan=False)  # raises on NaN and infinities
    assert json.loads(text) == found
    return found


@pytest.mark.parametrize("rotation", [0.0, 11.25, 2.8125, 100.3, -77.0, 180.0])
def test_the_truth_is_the_truth_however_it_is_turned(rotation: float) -> None:
    found = _measure(worlds.turned(rotation))
    assert found["faces"] == 1
    assert not found["janus"]
    assert found["recognised"] == 1
    assert found["MI"] > 0.99 * BOUND
    assert found["psnr_aligned"] > 40
    assert abs((found["rotation_deg"] - rotation + 180) % 360 - 180) < 0.2
    assert -180 < found["rotation_deg"] <= 180


@pytest.mark.parametrize(
    ("kind", "colour", "least"), [("snowman", "yellow", 0.8), ("mushroom", "blue", 0.7)]
)
def test_the_truth_of_a_hard_kind_keeps_most_of_its_information(
    kind: str, colour: str, least: float
) -> None:
    """Some of their views are nearly the same picture, so less than the bound is the truth."""
    found = [_measure(worlds.turned(turn, kind, colour), kind, colour) for turn in (0.0, 13.9)]
    for one in found:
        assert one["faces"] == 1
        assert not one["janus"]
        assert one["recognised"] == 1
        assert one["psnr_aligned"] > 40
        assert one["MI"] > least * BOUND
    assert found[0]["MI"] == pytest.approx(found[1]["MI"], abs=0.05)


@pytest.mark.parametrize("faces", [2, 4])
def test_an_owl_with_several_faces_has_them_counted(faces: int) -> None:
    found = _measure(worlds.faced(faces))
    assert found["faces"] == faces
    assert found["janus"]
    assert found["recognised"] == 1, "every view alone is a fine owl: this is not where Janus shows"
    assert found["MI"] == pytest.approx(math.log(16 / faces), abs=0.02)
    assert found["psnr_aligned"] < 25


def test_an_owl_whose_front_is_all_around_is_one_face_too_wide() -> None:
    found = _measure(worlds.front_all_round())
    assert (found["faces"], found["front_share"], found["janus"]) == (1, 4.0, True)
    assert found["MI"] == 0
    assert found["recognised"] == 1


def test_a_flat_card_has_a_front_on_either_side() -> None:
    found = _measure(worlds.flat_card())
    assert found["faces"] == 2
    assert found["janus"]
    assert found["MI"] < 0.5 * BOUND
    assert found["recognised"] < 0.6, "near edge on it is no owl"


def test_a_mirrored_owl_is_an_owl_in_another_light() -> None:
    """Figurines are their own mirror images; only the lamp then stands on the other side."""
    found = _measure(worlds.mirrored())
    assert (found["faces"], found["janus"], found["recognised"]) == (1, False, 1.0)
    assert found["MI"] > 0.99 * BOUND
    assert 25 < found["psnr_aligned"] < 40


def test_true_views_in_the_wrong_order_fail_only_the_comparison_with_the_truth() -> None:
    found = _measure(worlds.walked_backwards())
    assert (found["faces"], found["janus"], found["recognised"]) == (1, False, 1.0)
    assert found["MI"] > 0.99 * BOUND, "each view is plainly some pose, and they all differ"
    assert found["psnr_aligned"] < 25


@pytest.mark.parametrize("light", [0.2, 0.7])
def test_a_ball_is_nothing_in_particular(light: float) -> None:
    found = _measure(worlds.grey_ball(light))
    assert found["MI"] == 0
    assert found["IG"] == 0
    assert found["janus"]
    assert found["recognised"] == 0


@pytest.mark.parametrize(
    ("light", "kind", "colour"), [(0.2, "robot", "green"), (0.9, "mushroom", "white")]
)
def test_a_ball_that_some_figurine_is_nearest_to_has_no_view_of_it(
    light: float, kind: str, colour: str
) -> None:
    """``recognised`` asks which is nearest, not how near."""
    found = _measure(worlds.grey_ball(light), kind, colour)
    assert found["recognised"] == 1
    assert (found["MI"], found["IG"], found["janus"]) == (0, 0, True)
    assert found["psnr_aligned"] < 18


def test_an_empty_scene_has_no_face_and_is_not_recognised() -> None:
    found = _measure(worlds.nothing())
    assert (found["faces"], found["front_share"], found["janus"]) == (0, 0.0, True)
    assert found["MI"] == 0
    assert found["recognised"] == 0


def test_an_empty_scene_is_not_even_the_figurine_that_hides_best() -> None:
    """Some template is always the nearest; nothing is nearer still."""
    bank = templates(KINDS, 16, Orbit(), 15.0, TEMPLATE_SIZE)
    small = torch.full((1, 3, TEMPLATE_SIZE, TEMPLATE_SIZE), 0.45)
    best = int(bank.distances(small, worlds.GREY[:1])[0].amin(-1).argmin())
    found = _measure(worlds.nothing(), KINDS[best // 8], list(COLOURS)[best % 8])
    assert (found["faces"], found["recognised"]) == (0, 0.0)


@pytest.mark.parametrize(("kind", "colour"), [("cat", "red"), ("owl", "blue")])
def test_another_figurine_is_not_recognised(kind: str, colour: str) -> None:
    assert _measure(worlds.turned(30.0, kind, colour))["recognised"] == 0


def _render(seen: list[Cameras], size: int = 64):
    def render(cameras: Cameras, backgrounds: torch.Tensor) -> torch.Tensor:
        seen.append(cameras)
        return trace("duck", "green", cameras.viewmats, cameras.Ks, size, backgrounds)

    return render


def test_a_scene_is_seen_by_the_orbits_turntable() -> None:
    seen: list[Cameras] = []
    orbit = Orbit(distance=(3.0, 3.6), fov=(38.0, 40.0))
    config = Measure(views=8, elevation=20.0)
    found = measure_scene(_render(seen), "a green duck, side view", config, orbit)
    assert found is not None
    assert (found["faces"], found["recognised"], found["psnr_aligned"]) == (1, 1.0, 100.0)
    torch.testing.assert_close(seen[0].viewmats, orbit.turntable(8, 20.0).viewmats)
    torch.testing.assert_close(seen[0].Ks, orbit.turntable(8, 20.0).Ks)


@pytest.mark.parametrize(
    "images",
    [worlds.turned(100.3), worlds.faced(2), worlds.flat_card(), worlds.grey_ball()],
    ids=["truth", "two faces", "card", "ball"],
)
def test_entropies_alone_are_those_of_the_whole_measure(images: torch.Tensor) -> None:
    """A rotation known to a template's step is good enough for them."""
    entropies = pose_entropies(lambda cameras, behind: images, "a red owl", Measure(), Orbit())
    whole = _measure(images)
    assert entropies is not None
    assert entropies["IV"] == pytest.approx(whole["IV"], abs=0.1)
    assert entropies["IQ"] == pytest.approx(whole["IQ"], abs=0.1)
    assert entropies["MI"] == pytest.approx(whole["MI"], abs=0.1)


def test_what_is_no_figurine_is_not_measured() -> None:
    seen: list[Cameras] = []
    assert measure_scene(_render(seen), "a corgi in a hat", Measure(), Orbit()) is None
    assert pose_entropies(_render(seen), "a corgi in a hat", Measure(), Orbit()) is None
    assert not seen, "no need to draw it"


def test_ranges_are_checked_all_at_once() -> None:
    with pytest.raises(ValueError, match=r"views: .* got 4\nelevation: .* got 90"):
        Measure(views=4, elevation=90.0)


@pytest.mark.parametrize("wrong", [worlds.front_all_round(), worlds.faced(2)])
def test_in_no_measure_is_a_wrong_scene_better_than_the_truth(wrong: torch.Tensor) -> None:
    truth, wrong_one = _measure(worlds.turned(0.0)), _measure(wrong)
    assert list(truth) == list(MEASURES)
    for name, meaning in MEASURES.items():
        pair, goal = (truth[name], wrong_one[name]), meaning.better
        if goal is None or None in pair:  # IG is None where the pose is certain
            continue
        ours, other = (abs(x - goal) if isinstance(goal, int) else x for x in pair)
        if goal == "higher":
            ours, other = -ours, -other
        assert ours <= other + 1e-3, name


@pytest.mark.parametrize("name", MEASURES)
def test_the_words_for_a_measure_say_which_value_is_better(name: str) -> None:
    meaning = MEASURES[name]
    words = {"higher": "Higher is better", "lower": "Lower is better", 1: "1 is right"}
    said = {goal for goal, text in words.items() if text in meaning.text}
    assert said == {meaning.better} & words.keys()
