import pytest
import torch

from esd_splat.prompt import VIEWS, ViewPrompts


def test_thresholds_and_precedence() -> None:
    """Overhead wins over back, back over front, and side is the rest; azimuth wraps."""
    views = ViewPrompts(enabled=True, front=45, back=60, overhead=50)
    azimuth = torch.tensor([0.0, 44, 46, 119, 121, 180, -121, -46, 350, 0])
    elevation = torch.tensor([0.0, 0, 0, 0, 0, 49, 0, 0, 0, 51])
    names = [VIEWS[i] for i in views.indices(azimuth, elevation)]
    assert names == ["front", "front", *["side"] * 2, *["back"] * 3, "side", "front", "overhead"]


def test_texts() -> None:
    assert ViewPrompts().texts("a red owl") == ["a red owl"] * 4
    assert ViewPrompts(enabled=True).texts("a red owl")[2] == "a red owl, back view"


def test_wrong_thresholds_are_reported_together() -> None:
    with pytest.raises(ValueError, match=r"(?s)front: must be in \[0, 180\].*overhead: .*got 91"):
        ViewPrompts(front=-1, overhead=91)
