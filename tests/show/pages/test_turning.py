"""In a real browser: all scenes of a page turn together, however they are turned."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from esd_splat.compare import main
from esd_splat.show.pages import AZIMUTHS
from tests.runs import make_run
from tests.show.pages.pictures import middle, small_frames

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE = {"width": 390, "height": 844}
TURNED = {"rotation_deg": 90.0}
PER_QUARTER = AZIMUTHS // 4


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs; the second faces azimuth 90."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        make_run(folder / "a"),
        make_run(folder / "b", measures=TURNED, turned=1),
        make_run(folder / "c"),
    ]
    with small_frames():
        assert main([*map(str, runs), "--out", str(folder / "page.html")]) == 0
    return folder / "page.html"


@pytest.fixture
def page(browser: "Browser", file: Path) -> Iterator["Page"]:
    """The page as opened from the disk; it must ask for nothing else, and raise no error."""
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        page, asked, errors = context.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(file.as_uri())
        yield page
        assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
        assert errors == []


def _seen(page: "Page") -> list[list[int]]:
    """Azimuth and elevation at which each scene is seen, in frames; read off its picture."""
    places = page.evaluate(
        """() => {
          const { orbits } = JSON.parse(document.getElementById("orbits").textContent);
          return [...document.querySelectorAll("img.scene")].map(
            (scene, index) => orbits[index].indexOf(scene.src));
        }"""
    )
    assert min(places) >= 0
    return [list(divmod(place, AZIMUTHS))[::-1] for place in places]


def test_keys_turn_all_scenes_and_a_turn_has_no_end(page: "Page") -> None:
    assert _seen(page) == [[0, 0]] * 3, "the front comes first"
    page.keyboard.press("ArrowRight")
    assert _seen(page) == [[1, 0]] * 3
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert _seen(page) == [[AZIMUTHS - 2, 0]] * 3
    page.keyboard.press("ArrowUp")
    assert _seen(page) == [[AZIMUTHS - 2, 0]] * 3, "which scrolls, but for one who is at a scene"
    page.locator("img.scene").nth(1).focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert _seen(page) == [[AZIMUTHS - 2, 1]] * 3


def test_a_drag_turns_all_scenes_with_the_pointer(page: "Page") -> None:
    """From the right to the left by half a picture: a quarter turn, and its right side comes."""
    box = page.locator("img.scene").nth(2).bounding_box()
    assert box is not None
    x, y = box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - box["width"] / 2, y, steps=5)
    assert _seen(page) == [[PER_QUARTER, 0]] * 3
    page.mouse.up()
    page.mouse.move(x, y)
    assert _seen(page) == [[PER_QUARTER, 0]] * 3, "let go"


def test_sliders_turn_all_scenes_and_say_where(page: "Page") -> None:
    page.locator("[name=azimuth]").fill(str(2 * PER_QUARTER))
    page.locator("[name=elevation]").fill("1")
    assert _seen(page) == [[2 * PER_QUARTER, 1]] * 3
    assert page.locator("output").all_text_contents() == ["180°", "45°"]


def test_fronts_can_be_aligned(page: "Page") -> None:
    def shown(kind: str, every: int = 1) -> list[str]:
        images = page.locator(f"img.{kind}").all()[::every]
        return [middle(image.get_attribute("src") or "") for image in images]

    assert shown("scene") == ["red", "black", "red"]
    page.locator("[name=align]").check()
    assert shown("scene") == ["red"] * 3
    assert shown("view", every=2) == ["red", "green", "blue", "black"] * 3
    page.keyboard.press("ArrowRight")
    assert _seen(page) == [[1, 0], [PER_QUARTER + 1, 0], [1, 0]]
    page.keyboard.press("ArrowLeft")
    page.locator("[name=align]").uncheck()
    assert shown("scene") == ["red", "black", "red"]


def test_it_fits_a_phone(page: "Page") -> None:
    page.set_viewport_size(PHONE)  # pyright: ignore[reportArgumentType]
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    scenes = [scene.bounding_box() for scene in page.locator("img.scene").all()]
    assert all(box and box["width"] > PHONE["width"] / 3 for box in scenes)
