"""The pictures of a run: which are drawn, when, and how large."""

from collections.abc import Iterable
from pathlib import Path

import imageio.v3 as imageio
import pytest
import torch
from typing_extensions import override

from esd_splat.config import Config, load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.show import observers
from esd_splat.show.observers import Pictures

Sheet = tuple[list[str], list[int], list[float]]
"""What stands at the left, and sizes and greys of the rows."""


def _config(out: Path, *more: str) -> Config:
    keys = ["prompt=a red owl", f"out={out}", "export.frames=2", "export.sheet_views=3"]
    return load_config(None, [*keys, *more])


class Grey(Distillation):
    """A run of 10 steps whose pictures are the lighter the further it is. It has no state."""

    def __init__(self, done: int) -> None:
        self.done = done

    @override
    def views(
        self, cameras: Cameras, background: torch.Tensor, scene: Gaussians | None = None
    ) -> torch.Tensor:
        return torch.full((len(cameras), 3, cameras.height, cameras.width), self.done / 10)


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[Sheet]:
    """Every contact sheet that is drawn."""
    made: list[Sheet] = []
    make = observers.contact_sheet

    def contact_sheet(rows: list[torch.Tensor], across: list[str], down: list[str]) -> torch.Tensor:
        assert across == ["0°", "120°", "240°"]
        assert all(len(row) == 3 for row in rows)
        greys = [round(float(row.mean()), 2) for row in rows]
        made.append((down, [row.shape[-1] for row in rows], greys))
        return make(rows, across, down)

    monkeypatch.setattr(observers, "contact_sheet", contact_sheet)
    return made


@pytest.mark.parametrize(
    ("more", "size"),
    [
        ((), 512),
        (("cameras.size=640",), 640),
        (("export.size=100",), 100),
        (("export.size=100", "cameras.size=640"), 100),
    ],
)
def test_the_finished_scene_is_drawn_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], size: int
) -> None:
    """However small the views are that it was made of, unless the user asks for another size."""
    videos: dict[str, list[tuple[int, ...]]] = {}

    def write_video(frames: Iterable[torch.Tensor], path: Path, fps: int) -> None:
        videos[path.name] = [tuple(frame.shape) for frame in frames]

    monkeypatch.setattr(observers, "write_video", write_video)
    pictures = Pictures(_config(tmp_path, *more))
    pictures.before_summary(Grey(10))
    assert videos == {"turntable.mp4": [(3, size, size)] * 2}
    sheet = imageio.imread(tmp_path / "contact_sheet.png")
    assert (sheet[-size:, -size:] == 255).all()
    assert sheet.shape[0] < 1.2 * size
    assert pictures.state() == {"sheets": []}


@pytest.mark.parametrize("every", [3, 5])
def test_earlier_rows_are_as_small_as_the_views_and_the_last_is_not_shown_twice(
    tmp_path: Path, sheets: list[Sheet], every: int
) -> None:
    more = (f"log.sheet_every={every}", "steps=10", "cameras.size=8", "export.size=32")
    pictures = Pictures(_config(tmp_path, *more))
    for done in range(1, 11):
        pictures.after_step(Grey(done))
    steps = [step for step in range(1, 11) if step % every == 0]
    assert sheets[-1] == (
        [f"step {step}" for step in steps],
        [8] * len(steps),
        [step / 10 for step in steps],
    )
    kept = pictures.state()["sheets"]
    assert [(row.dtype, *row.shape) for row in kept] == [(torch.uint8, 3, 3, 8, 8)] * len(steps)
    pictures.before_summary(Grey(10))
    earlier = [step for step in steps if step < 10]
    assert sheets[-1] == (
        [*(f"step {step}" for step in earlier), "step 10"],
        [8] * len(earlier) + [32],
        [*(step / 10 for step in earlier), 1.0],
    )


def test_rows_keep_their_steps_where_nobody_drew_the_first_ones(
    tmp_path: Path, sheets: list[Sheet]
) -> None:
    """A run may begin without observers, and its checkpoint then has no rows."""
    config = _config(tmp_path, "log.sheet_every=2", "steps=10", "cameras.size=8", "export.size=32")
    pictures = Pictures(config)
    pictures.restore({"rows": [], "diagnoses": [], "seconds": 1.0})
    for done in range(4, 8):
        pictures.after_step(Grey(done))
    assert sheets[-1] == (["step 4", "step 6"], [8, 8], [0.4, 0.6])
    again = Pictures(config)
    again.restore(pictures.state())
    again.after_step(Grey(8))
    assert sheets[-1] == (["step 4", "step 6", "step 8"], [8, 8, 8], [0.4, 0.6, 0.8])


def test_rows_of_an_older_version_may_have_another_size(
    tmp_path: Path, sheets: list[Sheet]
) -> None:
    """It drew all rows at ``export.size``."""
    keys = ("log.sheet_every=2", "steps=4", "cameras.size=8", "export.size=32")
    pictures = Pictures(_config(tmp_path, *keys))
    pictures.restore({"sheets": [torch.zeros(3, 3, 32, 32, dtype=torch.uint8)]})
    pictures.after_step(Grey(4))
    assert sheets[-1] == (["step 2", "step 4"], [32, 8], [0.0, 0.4])
