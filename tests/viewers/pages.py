"""Our own page in a browser: opened from the disk, and what its camera ought to see."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.formats.html import BACKGROUND, FOV_DEG
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import rasterize
from tests.browser import PATIENCE_MS, picture

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@contextmanager
def opened(
    browser: "Browser",
    file: Path,
    size: tuple[int, int] = (320, 300),
    init: str = "",
    **options: Any,
) -> Iterator["Page"]:
    """``file`` in a window of ``size``; options as of playwright's ``new_context``.

    ``init`` is JavaScript that runs before the page's own.
    Errors in the page, and whatever it asks for but itself, fail the test.
    """
    window = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=window, **options)  # pyright: ignore[reportArgumentType]
    context.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("request", lambda request: wrong.append(request.url))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    try:
        page.add_init_script(init)
        page.goto(file.as_uri())
        yield page
    finally:
        context.close()
        # The engine's workers are made from texts in the page.
        assert [w for w in wrong if not w.startswith("blob:null/")] == [file.as_uri()]


def ready(page: "Page") -> int:
    """Wait for the scene; milliseconds that the page took to show it."""
    return int(page.wait_for_selector("html[data-ready]").get_attribute("data-ready"))  # pyright: ignore


def until(page: "Page", holds: Callable[[], bool]) -> None:
    """Wait for it; the page's policy forbids the browser's own way, by a text to be evaluated."""
    for _ in range(PATIENCE_MS // 50):
        if holds():
            return
        page.wait_for_timeout(50)
    raise TimeoutError


def camera(page: "Page") -> Float[Tensor, "4 4"]:
    """Camera-to-world in our axes, OpenCV's in the camera."""
    numbers = page.evaluate("[...app.root.findByName('camera').getWorldTransform().data]")
    theirs = torch.tensor(numbers, dtype=torch.float64).view(4, 4).T
    # Their world is ours, turned by 180 degrees about y; their cameras look along -z, y up.
    return (
        torch.diag(theirs.new_tensor([-1, 1, -1, 1]))
        @ theirs
        @ torch.diag(theirs.new_tensor([1, -1, -1, 1]))
    )


def place(page: "Page") -> tuple[float, float, float]:
    """Azimuth and elevation of the page's camera, in degrees, and its distance to the origin."""
    x, y, z = camera(page)[:3, 3].tolist()
    distance = math.hypot(x, y, z)
    return math.degrees(math.atan2(x, z)), math.degrees(math.asin(y / distance)), distance


def seen(page: "Page") -> Float[Tensor, "3 h w"]:
    """What the page shows of the scene."""
    return picture(page, clip=page.locator("canvas").bounding_box())


def expected(page: "Page", scene: Gaussians) -> Float[Tensor, "3 h w"]:
    """What it should show from where its camera is, by our own rasterizer."""
    box = page.locator("canvas").bounding_box()
    assert box is not None
    width, height = int(box["width"]), int(box["height"])
    focal = 0.5 * min(width, height) / math.tan(math.radians(FOV_DEG / 2))
    K = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    there = Cameras(camera(page).inverse().float()[None], K, width, height)
    background = torch.tensor([BACKGROUND]) / 255
    return rasterize(scene, there, background, "auto").images[0].clamp(0, 1)
