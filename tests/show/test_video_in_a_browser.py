"""A turntable in Chromium has the colours of the render."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from esd_splat.scene.cameras import Orbit
from esd_splat.scene.rasterize import rasterize
from esd_splat.show.images import to_bytes
from esd_splat.show.video import write_video
from tests.runs import balls

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SIZE = 96
FIRST_FRAME = """async address => {
    const video = document.createElement("video");
    video.muted = true;
    video.src = address;
    // A frame can be drawn once it has been shown, which is later than that it was loaded.
    await new Promise((shown, failed) => {
        video.onerror = () => failed(new Error(video.error.message));
        video.requestVideoFrameCallback(shown);
        video.play();
    });
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    const context = canvas.getContext("2d", {willReadFrequently: true});
    context.drawImage(video, 0, 0);
    return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
}"""


def test_a_frame_on_a_canvas_is_the_render(browser: "Browser", tmp_path: Path) -> None:
    """But for a few of 255 levels; decoded by the matrix of BT.601, red would be 23 off."""
    camera, white = Orbit(size=SIZE).turntable(1), torch.ones(1, 3)
    render = rasterize(balls(), camera, white, "reference").images.clamp(0, 1)
    path = tmp_path / "turntable.mp4"
    write_video(render.expand(24, -1, -1, -1), path)
    address = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    page = browser.new_page()
    try:
        drawn = torch.tensor(page.evaluate(FIRST_FRAME, address)).view(SIZE, SIZE, 4)[..., :3]
    finally:
        page.close()
    expected = torch.from_numpy(to_bytes(render)[0]).long()
    off = (drawn - expected).abs()
    assert off.float().quantile(0.99) <= 4
