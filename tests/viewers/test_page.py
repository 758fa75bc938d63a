"""The offline page, opened from the disk: it shows the scene, turns it, and lets it be turned."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from esd_splat.formats.html import ELEVATION_DEG, Html
from tests.browser import chromium, missing
from tests.viewers.gate import LEAST_DB, psnr
from tests.viewers.objects import owl, thing
from tests.viewers.pages import expected, opened, place, ready, seen, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
DESKTOP, PHONE = (1280, 800), (390, 844)
STILL: dict[str, Any] = {"reduced_motion": "reduce"}
"""What a visitor asks for who wants nothing to move by itself: no turntable."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page_of_owl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "owl.html"
    Html().write(owl(), file, "a red owl\nMI 1.73 nats\n1 face")
    return file


def _db(page: "Page") -> float:
    """How close what the page shows is to what we draw from its camera."""
    return psnr(seen(page)[None], expected(page, owl())[None]).item()


def _own_network() -> list[str]:
    """The command that runs another one in an empty network namespace."""
    if shutil.which("unshare"):
        for way in (["unshare", "-n"], ["unshare", "-rn"]):  # as root, and as anybody
            if subprocess.call([*way, "true"], stderr=subprocess.DEVNULL) == 0:
                return way
    return missing("needs unshare, and to be allowed an empty network namespace")


def test_it_shows_the_owl_where_there_is_no_network(page_of_owl: Path) -> None:
    chromium()
    alone = _own_network()
    program = [sys.executable, "-m", "tests.viewers.alone", str(page_of_owl)]
    done = subprocess.run([*alone, *program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "Network is unreachable" in found["unreachable"]
    assert abs(found["azimuth"]) < 0.1
    assert found["db"] >= LEAST_DB


def test_it_begins_with_the_front_and_turns(browser: "Browser", page_of_owl: Path) -> None:
    with opened(browser, page_of_owl) as page:
        ready(page)
        page.evaluate("scrubTo(0)")
        azimuth, elevation, distance = place(page)
        assert abs(azimuth) < 0.1
        assert abs(elevation - ELEVATION_DEG) < 3  # as seen from the origin, not its centre
        front = seen(page)
        assert _db(page) >= LEAST_DB
        turn = page.get_by_role("button", name="Turn", exact=True)
        turn.click()
        until(page, lambda: abs(place(page)[0]) > 20)
        page.get_by_role("button", name="Stop turning").click()
        turned = place(page)
        assert turned[1:] == pytest.approx((elevation, distance), abs=0.5)
        page.wait_for_timeout(500)
        assert place(page) == turned
        assert _db(page) >= LEAST_DB
        assert psnr(front[None], seen(page)[None]).item() < LEAST_DB - 8


def test_who_wants_no_motion_gets_none(browser: "Browser", page_of_owl: Path) -> None:
    with opened(browser, page_of_owl, **STILL) as page:
        ready(page)
        before = place(page)
        page.wait_for_timeout(500)
        assert place(page) == before


@pytest.mark.parametrize("how", ["mouse", "touch"])
def test_a_drag_orbits(browser: "Browser", page_of_owl: Path, how: str) -> None:
    with opened(browser, page_of_owl, **STILL, has_touch=how == "touch") as page:
        ready(page)
        before, _, distance = place(page)
        front = seen(page)
        steps = [(100 + 10 * n, 120 + 2 * n) for n in range(9)]
        if how == "mouse":
            page.mouse.move(*steps[0])
            page.mouse.down()
            for step in steps:
                page.mouse.move(*step)
            page.mouse.up()
        else:
            fingers = page.context.new_cdp_session(page)
            for n, (x, y) in enumerate(steps):
                kind = "touchMove" if n else "touchStart"
                point = {"type": kind, "touchPoints": [{"x": x, "y": y}]}
                fingers.send("Input.dispatchTouchEvent", point)
                page.wait_for_timeout(30)
            fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_timeout(1000)
        azimuth, _, after = place(page)
        assert before - 90 < azimuth < before - 5  # the near side follows the finger to the right
        assert after == pytest.approx(distance, rel=0.05)
        assert _db(page) >= LEAST_DB
        assert psnr(front[None], seen(page)[None]).item() < LEAST_DB - 8


def test_the_wheel_goes_nearer(browser: "Browser", page_of_owl: Path) -> None:
    with opened(browser, page_of_owl, **STILL) as page:
        ready(page)
        distance = place(page)[2]
        page.mouse.move(150, 100)
        page.mouse.wheel(0, -200)
        page.wait_for_timeout(1000)
        assert place(page)[2] < 0.95 * distance


@pytest.mark.parametrize("size", [(400, 300), (240, 500)], ids=["wide", "high"])
def test_the_object_is_whole_in_any_window(
    browser: "Browser", page_of_owl: Path, size: tuple[int, int]
) -> None:
    with opened(browser, page_of_owl, size, **STILL) as page:
        ready(page)
        shown = seen(page)
        assert _db(page) >= LEAST_DB
    border = [shown[:, :2], shown[:, -2:], shown[:, :, :2], shown[:, :, -2:]]
    corner = shown[:, 0, 0]
    assert all((edge - corner.view(3, 1, 1)).abs().max() < 2 / 255 for edge in border)
    inside = (shown - corner.view(3, 1, 1)).abs().amax(dim=0) > 0.1
    rows, columns = inside.any(dim=1).sum(), inside.any(dim=0).sum()
    assert max(rows / shown.shape[1], columns / shown.shape[2]) > 0.6
    assert rows > 0.5 * min(shown.shape[1:])


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 300)])
@pytest.mark.parametrize("prompt", ["a red owl", "an owl of " + 60 * "very very many words "])
def test_the_caption_never_covers_the_scene(
    tmp_path: Path, browser: "Browser", size: tuple[int, int], prompt: str
) -> None:
    Html().write(owl(), tmp_path / "owl.html", f"{prompt}\nMI 1.73 nats\n1 face")
    with opened(browser, tmp_path / "owl.html", size, **STILL) as page:
        page.wait_for_selector("canvas")
        assert page.title() == page.locator("h1").inner_text() == prompt.strip()
        scene, caption = (page.locator(name).bounding_box() for name in ("canvas", "footer"))
        assert scene is not None
        assert caption is not None
        assert scene["y"] == 0
        assert scene["width"] == caption["width"] == size[0]
        assert scene["height"] == caption["y"]
        assert caption["y"] + caption["height"] == size[1]
        assert scene["height"] > size[1] / 2
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]


def test_a_prompt_is_text(tmp_path: Path, browser: "Browser") -> None:
    prompt = "\"Käuzchen\" & 'owl' </h1></script><script>alert(1)</script><img onerror=alert(1)>"
    Html().write(owl(), tmp_path / "owl.html", f"{prompt}\n{prompt}")
    with opened(browser, tmp_path / "owl.html", **STILL) as page:
        ready(page)
        assert page.title() == page.locator("h1").inner_text() == prompt
        assert page.locator("span").last.inner_text() == prompt


def test_without_webgl_the_page_says_so(browser: "Browser", page_of_owl: Path) -> None:
    none = "HTMLCanvasElement.prototype.getContext = () => null"
    with opened(browser, page_of_owl, init=none) as page:
        problem = page.get_by_role("alert")
        assert "needs WebGL 2" in problem.inner_text()
        assert page.locator("h1").is_visible()
        assert page.get_by_role("button").count() == 0


def test_a_scene_with_a_stray_still_orbits(tmp_path: Path, browser: "Browser") -> None:
    """The viewer takes what surrounds its camera for a room, and would fly through it."""
    scene = owl()
    scene.means[:2] = 50 * scene.means[:2].sign()
    Html().write(scene, tmp_path / "stray.html")
    with opened(browser, tmp_path / "stray.html", **STILL) as page:
        ready(page)
        before = place(page)
        page.mouse.move(160, 100)
        page.mouse.down()
        page.mouse.move(220, 100, steps=6)
        page.mouse.up()
        page.wait_for_timeout(1000)
        azimuth, elevation, distance = place(page)
        assert abs(azimuth - before[0]) > 5
        assert (elevation, distance) == pytest.approx(before[1:], abs=0.5)


def test_the_page_keeps_every_degree_of_colour(tmp_path: Path, browser: "Browser") -> None:
    Html().write(thing(), tmp_path / "thing.html")
    with opened(browser, tmp_path / "thing.html", **STILL) as page:
        ready(page)
        assert psnr(seen(page)[None], expected(page, thing())[None]).item() >= LEAST_DB
