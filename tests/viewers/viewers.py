"""The viewers that our files are opened in: each shows a file, as seen from our cameras."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from esd_splat.scene.cameras import Cameras
from esd_splat.types import Images
from tests.browser import PATIENCE_MS, missing, picture

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

HERE = Path(__file__).parent
SITE = "http://viewers.test/"
"""Where the pages seem to be: there is no such host, and no server."""
SUPERSPLAT = "node_modules/@playcanvas/supersplat-viewer/public/"


def supersplat(browser: "Browser", file: Path, cameras: Cameras) -> Images:
    """``file`` in the viewer of superspl.at, as its makers ship it."""
    settings = _supersplat_settings(cameras)
    query = f"?noui&webgl&settings={SITE}settings.json&content={SITE}scene/{file.name}"
    with _page(browser, cameras, {"settings.json": settings, f"scene/{file.name}": file}) as page:
        page.add_init_script("window.loaded = new Promise((done) => { window.firstFrame = done })")
        page.goto(f"{SITE}{SUPERSPLAT}index.html{query}")
        page.evaluate("loaded")
        return torch.stack([_shot(page, "scrubTo", [n]) for n in range(len(cameras))])


def spark(browser: "Browser", file: Path, cameras: Cameras) -> Images:
    """``file`` in three.js, by Spark."""
    with _page(browser, cameras, {f"scene/{file.name}": file}) as page:
        page.goto(f"{SITE}spark.html?scene={SITE}scene/{file.name}")
        page.evaluate("loaded")
        fov = _fov_deg(cameras)
        return torch.stack([_shot(page, "look", [eye, fov]) for eye in cameras.eyes.tolist()])


VIEWERS: dict[str, Callable[["Browser", Path, Cameras], Images]] = {
    "supersplat": supersplat,
    "spark": spark,
}

READS = {
    "supersplat": {".ply", ".compressed.ply", ".sog"},
    "spark": {".ply", ".compressed.ply", ".spz", ".splat", ".sog"},
}
"""Suffixes of the files that each of them opens."""


@contextmanager
def _page(browser: "Browser", cameras: Cameras, files: dict[str, Path | str]) -> Iterator["Page"]:
    """A page of ``SITE``, which holds what lies beside this module and ``files``.

    Whatever else is asked for, or goes wrong in the page, is an error.
    """
    if not (HERE / "node_modules" / "three").is_dir():
        missing("needs the viewers: make viewers")
    wrong: list[str] = []

    def serve(route: "Route") -> None:
        name = route.request.url.removeprefix(SITE).partition("?")[0]
        found = files.get(name, HERE / name)
        if isinstance(found, str):
            route.fulfill(body=found, content_type="application/json")
        elif found.is_file():
            route.fulfill(path=found)
        else:
            wrong.append(f"asked for {route.request.url}")
            route.abort()

    page = browser.new_page(viewport={"width": cameras.width, "height": cameras.height})
    page.set_default_timeout(PATIENCE_MS)
    page.route(lambda url: not url.startswith(("blob:", "data:")), serve)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    try:
        yield page
    finally:
        page.close()
        assert not wrong


def _shot(page: "Page", function: str, arguments: list[Any]) -> torch.Tensor:
    page.evaluate(f"(arguments) => {function}(...arguments)", arguments)
    return picture(page)


def _fov_deg(cameras: Cameras) -> float:
    return math.degrees(2 * math.atan(0.5 * cameras.height / cameras.Ks[0, 1, 1].item()))


def _supersplat_settings(cameras: Cameras) -> str:
    """A track that stands at the n-th camera at the n-th second.

    The viewer turns a file by 180 degrees about z, where we turn it about x.
    """
    count, fov = len(cameras), _fov_deg(cameras)
    eyes = (cameras.eyes * torch.tensor([-1.0, 1, -1])).tolist()
    track = {
        "name": "cameras",
        "duration": count,
        "frameRate": 1,
        "loopMode": "none",
        "interpolation": "step",
        "smoothness": 0,
        "keyframes": {
            "times": list(range(count)),
            "values": {
                "position": [x for eye in eyes for x in eye],
                "target": [0] * (3 * count),
                "fov": [fov] * count,
            },
        },
    }
    settings = {
        "version": 2,
        "tonemapping": "linear",
        "highPrecisionRendering": False,
        "background": {"color": [0, 0, 0]},
        "postEffectSettings": {
            name: {"enabled": False}
            for name in ("sharpness", "bloom", "grading", "vignette", "fringing")
        },
        "animTracks": [track],
        "cameras": [{"initial": {"position": eyes[0], "target": [0, 0, 0], "fov": fov}}],
        "annotations": [],
        "startMode": "animTrack",
    }
    return json.dumps(settings)
