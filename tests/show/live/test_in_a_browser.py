"""The page in Chromium: the command is watched, paused, saved and stopped there."""

import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from esd_splat.config import load_config
from esd_splat.run.controls import Controls
from esd_splat.scene.gaussians import Gaussians
from esd_splat.show.live.page import Page
from tests.browser import PATIENCE_MS, picture
from tests.show.live import worlds
from tests.tiny import DEFAULTS, save_tiny

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize
    from playwright.sync_api import Page as Tab

pytestmark = pytest.mark.slow
DESK: "ViewportSize" = {"width": 900, "height": 600}
PHONE: "ViewportSize" = {"width": 390, "height": 844}


@dataclass
class Command:
    """A run of the command that goes on until somebody stops it."""

    process: subprocess.Popen[str]
    url: str
    out: Path


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    more = "steps=1000000", "checkpoint_every=0"
    keys = worlds.keys(save_tiny(tmp_path / "model"), tmp_path / "run", *more)
    run = [sys.executable, "-m", "esd_splat.fit", "--config", DEFAULTS, *keys]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+:\d+", process.stdout.readline())
            assert found
            yield Command(process, found[0], tmp_path / "run")
        finally:
            process.kill()


@pytest.fixture
def look(browser: "Browser") -> Iterator[Callable[..., "Tab"]]:
    """Opens tabs, which are closed after the test: each draws, in software."""
    context = browser.new_context(viewport={"width": 640, "height": 480})
    context.set_default_timeout(PATIENCE_MS)

    def look(url: str) -> "Tab":
        tab = context.new_page()
        tab.goto(url)
        tab.get_by_role("button", name="Stop").wait_for()
        return tab

    yield look
    context.close()


@pytest.fixture
def tab(look: Callable[..., "Tab"], command: Command) -> "Tab":
    return look(command.url)


def _row(tab: "Tab", name: str) -> str:
    """What the table of numbers says; empty where it does not say that."""
    row = re.search(rf"^{name}\s+(.*)$", tab.inner_text("body"), re.MULTILINE)
    return row[1] if row else ""


def _step(tab: "Tab") -> int:
    return int((_row(tab, "step") or "-1").split()[0])


def _press(tab: "Tab", name: str) -> None:
    tab.get_by_role("button", name=name).click()


def test_a_run_is_followed(tab: "Tab") -> None:
    seen: list[int] = []
    for _ in range(5):
        worlds.eventually(lambda: _step(tab) > max(seen, default=0))
        seen.append(_step(tab))
    worlds.eventually(lambda: float(_row(tab, "steps/s") or 0) > 0)
    assert int(_row(tab, "gaussians")) > 0
    assert _row(tab, "state") == "running"
    worlds.eventually(lambda: len(tab.query_selector_all("img")) >= 4)  # views, and who says what
    worlds.eventually(lambda: tab.query_selector("canvas.uplot, .uplot canvas"))


def test_a_paused_run_stands_still_and_saves(tab: "Tab", command: Command) -> None:
    worlds.eventually(lambda: _step(tab) > 0)
    _press(tab, "Pause")
    worlds.eventually(lambda: _row(tab, "state") == "paused")
    step = _step(tab)
    _press(tab, "Save now")
    worlds.eventually(lambda: _row(tab, "saved") == f"at step {step}")
    assert (command.out / "scene.ply").exists()
    assert (command.out / "checkpoints" / "last.ckpt").exists()
    assert _step(tab) == step
    _press(tab, "Resume")
    worlds.eventually(lambda: _step(tab) > step)


def test_two_tabs_see_and_steer_the_same_run(
    tab: "Tab", look: Callable[..., "Tab"], command: Command
) -> None:
    other = look(command.url)
    _press(other, "Pause")
    for each in (tab, other):
        worlds.eventually(lambda each=each: _row(each, "state") == "paused")
    assert _step(tab) == _step(other)
    _press(tab, "Resume")
    for each in (tab, other):
        worlds.eventually(lambda each=each: _row(each, "state") == "running")


def test_a_tab_that_is_killed_is_not_missed(
    tab: "Tab", look: Callable[..., "Tab"], command: Command
) -> None:
    worlds.eventually(lambda: _step(tab) > 0)
    killed = look(command.url)
    with pytest.raises(Exception, match="crash"):
        killed.goto("chrome://crash")
    step = _step(tab)
    worlds.eventually(lambda: _step(tab) > step)
    tab.close()  # nobody is left
    time.sleep(1)
    step = _step(later := look(command.url))
    worlds.eventually(lambda: _step(later) > step)


def test_stopping_leaves_a_scene_and_a_run_to_go_on_with(tab: "Tab", command: Command) -> None:
    worlds.eventually(lambda: _step(tab) > 0)
    _press(tab, "Stop")
    assert command.process.wait(PATIENCE_MS / 1000) == 130
    assert (command.out / "scene.ply").exists()
    assert (command.out / "checkpoints" / "last.ckpt").exists()


def _totem(width: float) -> Gaussians:
    """Red above blue; green on the right for whoever looks from the front."""
    return Gaussians(
        means=torch.tensor([[0.0, 0.5, 0.0], [0.0, -0.5, 0.0], [0.5, 0.0, 0.0]]),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(3, 1),
        log_scales=torch.full((3, 3), width).log(),
        opacity_logits=torch.full((3,), 9.0),
        sh0=2.5 * torch.tensor([[1.0, -1, -1], [-1.0, -1, 1], [-1.0, 1, -1]])[:, None],
        shN=torch.zeros(3, 0, 3),
    )


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_scene_stands_upright_and_is_seen_from_the_front(
    look: Callable[..., "Tab"], size: "ViewportSize"
) -> None:
    page = Page(load_config(None, ["prompt=a red owl", "view_port=0"]), Controls())
    widths = (0.15 + 1e-4 * count for count in itertools.count())
    tab = look(page.url)
    tab.set_viewport_size(size)
    tab.reload()
    tab.locator(".mantine-Notification-closeButton").click()  # that it is drawn in software
    high, wide = (600, 560) if size is DESK else (320, 390)  # where the panel is not

    def places() -> dict[str, tuple[float, float, int]]:
        """Where each colour is, and how many pixels of it: x, y, count."""
        # Viser draws on demand and may leave a scene half faded in that never changes.
        page.show_scene(_totem(next(widths)))
        image = picture(tab)[:, :high, :wide] > 0.6
        found = {}
        for name, bits in {"red": 4, "green": 2, "blue": 1}.items():
            want = torch.tensor([bits >> 2 & 1, bits >> 1 & 1, bits & 1]).bool()
            y, x = (image == want[:, None, None]).all(0).nonzero().double().T
            found[name] = (x.mean().item(), y.mean().item(), len(x))
        return found

    def whole() -> bool:
        """Whether all three are to be seen; where, is what is known then."""
        found.update(places())
        return min(count for _, _, count in found.values()) > 100

    found: dict[str, tuple[float, float, int]] = {}
    worlds.eventually(whole)
    time.sleep(1)  # the camera of a phone moves once it is known to be one
    worlds.eventually(whole)
    page.close()
    assert found["red"][1] < found["green"][1] < found["blue"][1]
    assert found["red"][0] == pytest.approx(found["blue"][0], abs=5)
    assert found["green"][0] > found["red"][0] + 20
