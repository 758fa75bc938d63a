"""Pictures of fits: point clouds, two-sigma ellipses, and the path of the mean."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from esd_splat.toy.exact import Gaussian

PANEL = 400
"""Width and height of a panel in pixels."""
SMOOTH = 2
"""Everything is drawn larger by this factor and then scaled down."""
TARGET, FITTED, INK, GRID, ALARM = "#1f77b4", "#ff7f0e", "#222222", "#e6e6e6", "#c00000"
LEFT, TOP, RIGHT, BOTTOM = 44, 34, 12, 30
"""Margins around the square of a panel in pixels."""


@dataclass(frozen=True)
class Window:
    """The square of the plane that a panel shows."""

    x: float
    """Horizontal coordinate of the centre."""
    y: float
    """Vertical coordinate of the centre."""
    half: float
    """Half the length of a side."""

    @staticmethod
    def around(gaussians: Sequence[Gaussian], sigmas: float = 3.5) -> "Window":
        """The smallest window with each Gaussian up to ``sigmas`` standard deviations per axis."""
        mean = torch.stack([_plane(g.mean[None])[0] for g in gaussians])
        reach = sigmas * torch.stack([_plane(g.cov.diagonal()[None].sqrt())[0] for g in gaussians])
        low, high = (mean - reach).amin(0), (mean + reach).amax(0)
        x, y = ((low + high) / 2).tolist()
        return Window(x, y, max(float((high - low).max()) / 2, 1e-6))


@dataclass(frozen=True)
class Panel:
    """The content of one panel of a picture."""

    title: str
    note: str
    """A warning in red below the title. Empty for none."""
    target: Gaussian
    path: Sequence[Gaussian]
    """The fits so far. The last one is drawn, and the path of the mean through all of them."""
    shown: Float[Tensor, "2 n d"]
    """Standard normal samples, placed on the target and on the fit."""


def picture(panels: Sequence[Panel], window: Window) -> Image.Image:
    """Draw the panels side by side."""
    size = SMOOTH * PANEL
    image = Image.new("RGB", (size * len(panels), size), "white")
    for k, panel in enumerate(panels):
        image.paste(_draw(panel, window), (k * size, 0))
    return image.resize((PANEL * len(panels), PANEL), Image.Resampling.BOX)


def png(image: Image.Image) -> bytes:
    """Encode the image as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def gif(frames: Sequence[Image.Image], fps: int) -> bytes:
    """Encode the frames as an endless GIF that pauses on the last one.

    GIF stores delays in hundredths of a second, so the frame rate is rounded.
    """
    palette = frames[-1].quantize(64)
    indexed = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    delays = [10 * round(100 / fps)] * (len(frames) - 1) + [1500]
    file = io.BytesIO()
    indexed[0].save(file, "GIF", save_all=True, append_images=indexed[1:], duration=delays, loop=0)
    return file.getvalue()


def _draw(panel: Panel, window: Window) -> Image.Image:
    size = SMOOTH * PANEL
    image = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(image)
    left, top, side = SMOOTH * LEFT, SMOOTH * TOP, SMOOTH * (PANEL - LEFT - RIGHT)
    side = min(side, SMOOTH * (PANEL - TOP - BOTTOM))
    scale = side / (2 * window.half)

    def pixels(points: Float[Tensor, "n d"]) -> list[tuple[float, float]]:
        at = _plane(points) - torch.tensor([window.x, window.y], dtype=points.dtype)
        x, y = (left + side / 2 + at[:, 0] * scale), (top + side / 2 - at[:, 1] * scale)
        return list(zip(x.tolist(), y.tolist(), strict=True))

    _grid(draw, window, (left, top, side))
    fitted = panel.path[-1]
    for gaussian, z, colour in ((panel.target, 0, TARGET), (fitted, 1, FITTED)):
        for x, y in pixels(gaussian.place(panel.shown[z])):
            _dot(draw, x, y, 1.5 * SMOOTH, colour)
    if len(panel.path) > 1:
        draw.line(pixels(torch.stack([g.mean for g in panel.path])), fill=INK, width=SMOOTH)
    for gaussian, colour in ((panel.target, "#0b3d63"), (fitted, "#8a3c00")):
        draw.line(pixels(_ellipse(gaussian)), fill=colour, width=2 * SMOOTH)
    # A collapsed fit is a point, so the means are drawn large enough to be seen.
    for gaussian, colour in ((panel.target, TARGET), (fitted, FITTED)):
        for x, y in pixels(gaussian.mean[None]):
            _dot(draw, x, y, 5 * SMOOTH, "white")
            _dot(draw, x, y, 4 * SMOOTH, colour)
    _frame(draw, panel, (left, top, side))
    return image


def _grid(draw: ImageDraw.ImageDraw, window: Window, square: tuple[int, int, int]) -> None:
    """Draw lines at round numbers, and the numbers."""
    left, top, side = square
    step = 10 ** math.floor(math.log10(window.half))
    step = next(s * step for s in (0.2, 0.5, 1, 2, 5) if window.half <= 4 * s * step)
    font = ImageFont.load_default(11 * SMOOTH)
    for centre, upright in ((window.x, True), (window.y, False)):
        first = math.ceil((centre - window.half) / step)
        last = math.floor((centre + window.half) / step)
        for k in range(first, last + 1):
            along = (k * step - centre + window.half) / (2 * window.half) * side
            if upright:
                x = left + along
                draw.line((x, top, x, top + side), fill=GRID, width=SMOOTH)
                draw.text((x, top + side + 3 * SMOOTH), f"{k * step:g}", INK, font, anchor="ma")
            else:
                y = top + side - along
                draw.line((left, y, left + side, y), fill=GRID, width=SMOOTH)
                draw.text((left - 4 * SMOOTH, y), f"{k * step:g}", INK, font, anchor="rm")


def _frame(draw: ImageDraw.ImageDraw, panel: Panel, square: tuple[int, int, int]) -> None:
    """Clear everything outside the square, and draw its border, title, note and legend."""
    left, top, side = square
    size, font = SMOOTH * PANEL, ImageFont.load_default(15 * SMOOTH)
    draw.rectangle((left, top, left + side, top + side), outline=INK, width=SMOOTH)
    draw.rectangle((0, 0, size, top - 1), fill="white")
    draw.rectangle((left + side + 1, 0, size, size), fill="white")
    draw.text((left, top - 8 * SMOOTH), panel.title, INK, font, anchor="ls")
    small = ImageFont.load_default(11 * SMOOTH)
    draw.text((left + side - 6 * SMOOTH, top + 6 * SMOOTH), panel.note, ALARM, small, anchor="ra")
    for k, (name, colour) in enumerate((("target", TARGET), ("fitted", FITTED))):
        y = top + side - (24 - 14 * k) * SMOOTH
        _dot(draw, left + 12 * SMOOTH, y, 4 * SMOOTH, colour)
        draw.text((left + 21 * SMOOTH, y), name, INK, small, anchor="lm")


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: str) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _ellipse(gaussian: Gaussian, sigmas: float = 2.0) -> Float[Tensor, "n 2"]:
    """Return the outline of the Gaussian, projected onto the first two axes."""
    cov = gaussian.cov[:2, :2]
    if len(cov) == 1:
        cov = torch.diag(torch.stack([cov[0, 0], cov.new_zeros(())]))
    spread, axes = torch.linalg.eigh(cov)
    turn = torch.linspace(0, 2 * math.pi, 97, dtype=cov.dtype)
    circle = torch.stack([turn.cos(), turn.sin()], 1)
    return circle * sigmas * spread.clamp_min(0).sqrt() @ axes.mT + _plane(gaussian.mean[None])


def _plane(points: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    """Return the first two coordinates. One-dimensional points are placed on the x axis."""
    if points.shape[1] > 1:
        return points[:, :2]
    return torch.cat([points, torch.zeros_like(points)], 1)
