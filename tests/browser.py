"""A real browser for tests: Debian's Chromium, drawing in software, cut off from any network."""

import importlib.util
import io
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = [
    "--no-sandbox",  # Chromium insists on it for root, as which containers run
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--ignore-gpu-blocklist", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-default-apps", "--no-first-run", "--no-default-browser-check"),
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
PATIENCE_MS = 120_000
"""For what takes seconds, on a machine that may be busy: reached only where something hangs."""


def missing(what: str) -> NoReturn:
    """Skip a test; fail it where ``ESD_SPLAT_REQUIRE_VIEWERS`` says that all must be there."""
    if os.environ.get("ESD_SPLAT_REQUIRE_VIEWERS"):
        pytest.fail(what)
    pytest.skip(what)


def chromium() -> str:
    """Path of Debian's Chromium, which playwright can drive."""
    if importlib.util.find_spec("playwright") is None:
        missing("needs playwright: pip install playwright")
    return shutil.which("chromium") or missing("needs Chromium: apt-get install chromium")


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """One for all tests: starting it takes longer than most of what it is asked."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def picture(page: "Page", **options: object) -> Float[Tensor, "3 h w"]:
    """What ``page`` looks like, RGB in [0, 1]; options as of playwright's ``screenshot``."""
    png = page.screenshot(timeout=PATIENCE_MS, **options)  # pyright: ignore[reportArgumentType]
    image = Image.open(io.BytesIO(png)).convert("RGB")
    levels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return levels.view(image.height, image.width, 3).permute(2, 0, 1) / 255
