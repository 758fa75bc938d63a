"""Agreement of judges that are known to be right, wrong or blind."""

import pytest
import torch
from torch import Tensor
from typing_extensions import override

from esd_splat.errors import PromptError
from esd_splat.figurines import COLOURS, KINDS
from esd_splat.run.measure.judges import UNMEASURED, Agreement, Judge, agreement, normal_pictures
from esd_splat.run.measure.judges.agreement import confused, kappa, surfaces, true_sides
from esd_splat.run.measure.truth import BACKGROUND
from esd_splat.scene.cameras import Cameras, Orbit
from esd_splat.types import Images


class Always(Judge):
    """Says the same of every image, and remembers what it was shown."""

    name, size = "always", 24

    def __init__(self, side: int) -> None:
        self.side = side
        self.seen: list[Images] = []
        self.prompts: list[str] = []

    @override
    def sides(self, images: Images, prompt: str, generator: torch.Generator) -> Tensor:
        self.seen.append(images)
        self.prompts.append(prompt)
        return torch.eye(3)[torch.full((len(images),), self.side)]


class Reads(Always):
    """Reads the azimuth from images of ``written``."""

    @override
    def sides(self, images: Images, prompt: str, generator: torch.Generator) -> Tensor:
        off = (images[:, 0, 0, 0] - 0.5).abs() * 360
        return torch.stack([off <= 45, (off > 45) & (off < 135), off >= 135], dim=1).float()


def written(kind: str, colour: str, cameras: Cameras, backgrounds: Tensor) -> Images:
    """Images that say by their brightness from where they were taken."""
    bright = cameras.azimuth_deg / 360 + 0.5
    return bright[:, None, None, None].expand(-1, 3, cameras.height, cameras.width)


class Knows(Always):
    """Has words for some prompts only."""

    def __init__(self, *known: str) -> None:
        super().__init__(0)
        self.known = known

    @override
    def check(self, prompt: str) -> None:
        if prompt not in self.known:
            raise PromptError(f"{prompt} is unknown")


@pytest.mark.parametrize(
    ("azimuth", "side"),
    [
        *((0, 0), (44, 0), (-45, 0), (46, 1), (-90, 1), (134, 1), (136, 2), (180, 2), (-140, 2)),
        *((350, 0), (270, 1), (200, 2)),
    ],
)
def test_true_sides(azimuth: float, side: int) -> None:
    assert true_sides(torch.tensor([float(azimuth)])).tolist() == [side]


@pytest.mark.parametrize("side", [0, 1, 2])
def test_a_judge_that_sees_nothing_agrees_by_chance_alone(side: int) -> None:
    known = agreement(Always(side))
    assert known.pictures == 48
    assert known.kappa == 0.0
    assert not known.trusted
    assert [sum(row) for row in known.confusion] == pytest.approx([12, 24, 12], abs=4)
    assert all(count == 0 for row in known.confusion for k, count in enumerate(row) if k != side)


def test_pictures_are_of_every_kind_at_the_judges_size() -> None:
    judge = Always(0)
    agreement(judge, pictures=16)
    assert [prompt.split()[-1] for prompt in judge.prompts] == list(KINDS)
    assert {prompt.split()[1] for prompt in judge.prompts} <= set(COLOURS)
    assert {tuple(images.shape) for images in judge.seen} == {(2, 3, 24, 24)}


def test_a_judge_that_knows_the_truth_is_trusted() -> None:
    known = agreement(Reads(0), photographer=written)
    assert known.kappa == pytest.approx(1)
    assert known.trusted
    assert known.pictures == 48


def test_figurines_without_words_are_left_out() -> None:
    judge = Knows("a red cat", "a blue owl")
    assert agreement(judge).pictures == 12
    assert judge.prompts == ["a blue owl", "a red cat"]
    with pytest.raises(PromptError, match="is unknown"):
        agreement(Knows())


def test_the_seed_decides_what_is_shown() -> None:
    one, same, other = (Always(0) for _ in range(3))
    for judge, seed in ((one, 0), (same, 0), (other, 1)):
        agreement(judge, seed, pictures=8)
    assert torch.equal(torch.cat(one.seen), torch.cat(same.seen))
    assert not torch.equal(torch.cat(one.seen), torch.cat(other.seen))


def test_kappa_by_hand() -> None:
    """35 of 50 agree and 25 would by chance: (0.7 - 0.5) / 0.5."""
    assert kappa(((20, 5), (10, 15))) == pytest.approx(0.4)
    assert kappa(((0, 5), (5, 0))) == -1.0
    assert kappa(((9, 0), (0, 0))) == kappa(((0, 0), (0, 0))) == 0.0


def test_rows_of_a_confusion_are_the_truth() -> None:
    truth, found = torch.tensor([0, 0, 2, 1]), torch.tensor([0, 1, 2, 1])
    assert confused(truth, found, 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_trust_begins_at_a_kappa_of_six_tenths() -> None:
    enough = Agreement(((4, 1, 0), (0, 5, 0), (0, 3, 2)))
    assert enough.kappa == pytest.approx(0.6)
    assert Agreement(((40, 10, 0), (0, 51, 0), (0, 30, 20))).trusted
    assert not Agreement(((40, 10, 0), (0, 49, 1), (0, 30, 20))).trusted


def test_without_a_measurement_there_is_no_trust() -> None:
    assert str(UNMEASURED) == "agreement not measured"
    assert not UNMEASURED.trusted
    assert not Agreement(((9, 0, 0), (0, 9, 0), (0, 0, 9)), measured=False).trusted
    assert UNMEASURED.summary()["kappa"] is None


def test_normals_become_colours_over_grey() -> None:
    normals = torch.zeros(1, 3, 1, 4)
    normals[0, 2, 0, 0] = 1  # faces the front
    normals[0, 0, 0, 1] = -5  # faces the left; its length does not matter
    normals[0, 1, 0, 2] = 1  # faces up, half covered
    alphas = torch.tensor([[[1.0, 1.0, 0.5, 0.0]]])
    expected = torch.tensor(
        [
            [0.5, 0.5, 1.0],
            [0.0, 0.5, 0.5],
            [0.5 * (0.5 + BACKGROUND), 0.5 * (1 + BACKGROUND), 0.5 * (0.5 + BACKGROUND)],
            [BACKGROUND] * 3,
        ]
    )
    torch.testing.assert_close(normal_pictures(normals, alphas)[0, :, 0].T, expected)


def test_a_figurines_surface_has_no_paint() -> None:
    cameras = Orbit().turntable(2, 0.0)
    grey = torch.full((2, 3), 0.5)
    red, blue = (surfaces("owl", colour, cameras, grey) for colour in ("red", "blue"))
    assert torch.equal(red, blue)
    front, back = red[:, 2, 28:36, 28:36].mean((1, 2))
    assert front > 0.8, "bluish: it faces z"
    assert back < 0.2
