"""Pictures of pages: drawn fast, and read back."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from PIL import Image

from esd_splat.scene.cameras import Orbit
from esd_splat.show.pages import orbit
from tests.runs import SIDES


@contextmanager
def small_frames() -> Iterator[None]:
    """Frames of 64 pixels: as many, drawn in a fraction of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orbit, "CAMERAS", Orbit(size=64))
        yield


def decoded(address: str) -> Image.Image:
    """The picture that a ``data:`` address is."""
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")


def middle(address: str) -> str:
    """Which of ``SIDES`` is in the middle of the picture."""
    image = decoded(address)
    pixel = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    off = {
        name: max(abs(255 * a - b) for a, b in zip(color, pixel, strict=True))
        for name, color in SIDES.items()
    }
    name = min(off, key=lambda name: off[name])
    assert off[name] < 90, pixel  # from high above, the ball behind shines through
    return name
