"""What follows from the sides that a judge names, in views from all around."""

import pytest
import torch
from torch import Tensor
from typing_extensions import override

from esd_splat.run.measure.judges import Judge, judge_views
from esd_splat.types import Images


class Told(Judge):
    """Names the sides that it was told, by their first letters."""

    name, size = "told", 8

    def __init__(self, sides: str) -> None:
        self.rows = ["fsb".index(letter) for letter in sides]

    @override
    def sides(self, images: Images, prompt: str, generator: torch.Generator) -> Tensor:
        assert len(images) == len(self.rows)
        return 0.1 + 0.7 * torch.eye(3)[self.rows]


def _views(count: int = 16) -> Images:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("sides", "faces", "share", "said"),
    [
        ("fffsssssbbbsssff", 1, 1.25, "one face"),
        ("ssffffssssbbbbss", 1, 1.0, "one face"),
        ("ffffffffffffffff", 1, 4.0, "too wide"),
        ("fffssssfffssssss", 2, 1.5, "several faces"),
        ("sssssssbbbbbbsss", 0, 0.0, "no face"),
    ],
)
def test_verdicts(sides: str, faces: int, share: float, said: str) -> None:
    found = judge_views(Told(sides), _views(), "a red owl", torch.Generator())
    assert (found["faces"], found["front_share"], found["verdict"]) == (faces, share, said)
    assert "".join(side[0] for side in found["sides"]) == sides
    assert found["judge"] == "told"


def test_views_that_show_nothing_are_no_fronts() -> None:
    views = _views()
    views[4:] = torch.tensor([0.2, 0.4, 0.6])[:, None, None]
    found = judge_views(Told("f" * 16), views, "a red owl", torch.Generator())
    assert found["sides"] == ["front"] * 4 + [None] * 12
    assert found["verdict"] == "one face"
