"""Objects to look at: an owl, and a thing that shows every mistake that a file can hold."""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from esd_splat.figurines.shapes import parts
from esd_splat.scene.gaussians import SH_C0, Gaussians

RGB = tuple[float, float, float]
GREY, WHITE, RED, BLUE = (0.5, 0.5, 0.5), (0.95, 0.95, 0.95), (0.9, 0.1, 0.1), (0.1, 0.2, 0.9)
GREEN, YELLOW, MAGENTA = (0.1, 0.8, 0.2), (0.9, 0.8, 0.1), (0.8, 0.1, 0.8)


def owl() -> Gaussians:
    """The red owl of the figurines: 5,577 Gaussians, each of one colour from everywhere."""
    balls = [
        _ball(round(2000 * sum(r * r for r in part.radii)), part.centre, part.radii, rgb)
        for part, rgb in parts("owl", "red")
    ]
    owl = _together(*balls)
    return Gaussians(**vars(owl) | {"shN": owl.shN[:, :0]})


def thing() -> Gaussians:
    """5,000 Gaussians of degree 3: front and back, left and right, above and below all differ.

    A grey egg whose colour depends on the view, by each of the 15 coefficients; a red nose in
    front, a magenta ball behind, a blue hat, a white foot; to the right (+x) green needles that
    rise, to the left yellow ones that fall, twelve times as long as thick; and around it all a
    cloud so faint (opacity 0.03) that only a wrong opacity shows it.
    """
    g = torch.Generator().manual_seed(0)
    egg = _ball(2400, (0, 0, 0), (0.42, 0.55, 0.42), GREY)
    # One pattern for the whole egg, as many would cancel; this one stays within 0 and 1, and shows
    # each mistake in each view.
    pattern = torch.randn(15, 3, generator=torch.Generator().manual_seed(3))
    egg.shN[:] = 0.24 * pattern
    return _together(
        egg,
        _ball(300, (0, 0.1, 0.45), (0.14, 0.14, 0.14), RED),
        _ball(300, (0.1, -0.1, -0.42), (0.2, 0.2, 0.12), MAGENTA),
        _ball(300, (0, 0.6, 0), (0.25, 0.08, 0.25), BLUE),
        _ball(300, (0, -0.58, 0.1), (0.3, 0.05, 0.3), WHITE),
        _needles(400, 1.0, 0.0, GREEN, g),
        _needles(400, -1.0, -0.1, YELLOW, g),
        _cloud(600, g),
    )


def _together(*scenes: Gaussians) -> Gaussians:
    values = zip(*(vars(scene).values() for scene in scenes), strict=True)
    return Gaussians(*(torch.cat(parts) for parts in values))


def _ball(n: int, center: RGB, radii: RGB, color: RGB) -> Gaussians:
    """The surface of an ellipsoid, of flat Gaussians that lie in it, on a spiral without holes."""
    z = 1 - (2 * torch.arange(n) + 1) / n
    turn = math.pi * (3 - math.sqrt(5)) * torch.arange(n)
    level = (1 - z * z).sqrt()
    unit = torch.stack([level * turn.cos(), level * turn.sin(), z], dim=1)
    size = 1.4 * math.sqrt(sum(r * r for r in radii) / n)
    means = torch.tensor(center) + torch.tensor(radii) * unit
    outward = normalize(unit / torch.tensor(radii), dim=1)
    return _gaussians(means, _turns_of_z(outward), (size, size, 0.25 * size), 0.9, color)


def _needles(n: int, side: float, up: float, color: RGB, g: torch.Generator) -> Gaussians:
    """A spray along the x axis to its positive or negative ``side``."""
    along = torch.tensor([1.0, 0.7, 0.2]) + 0.25 * torch.randn(n, 3, generator=g)
    along = side * normalize(along, dim=1)
    roots = torch.tensor([0.42 * side, up, 0.0]) + 0.1 * torch.randn(n, 3, generator=g)
    means = roots + 0.4 * torch.rand(n, 1, generator=g) * along
    return _gaussians(means, _turns_of_z(along), (0.006, 0.006, 0.072), 0.8, color)


def _cloud(n: int, g: torch.Generator) -> Gaussians:
    means, quats = 0.45 * torch.randn(n, 3, generator=g), torch.randn(n, 4, generator=g)
    return _gaussians(means, normalize(quats, dim=1), (0.05, 0.07, 0.09), 0.03, WHITE)


def _gaussians(means: Tensor, quats: Tensor, scales: RGB, opacity: float, color: RGB) -> Gaussians:
    n = len(means)
    return Gaussians(
        means=means,
        quats=quats,
        log_scales=torch.tensor(scales).log().repeat(n, 1),
        opacity_logits=torch.full((n,), math.log(opacity / (1 - opacity))),
        sh0=((torch.tensor(color) - 0.5) / SH_C0).repeat(n, 1, 1),
        shN=torch.zeros(n, 15, 3),
    )


def _turns_of_z(directions: Tensor) -> Tensor:
    """Quaternions of turns that take +z to unit vectors."""
    x, y, z = directions.unbind(dim=1)
    return normalize(torch.stack([1 + z, -y, x, torch.zeros_like(z)], dim=1), dim=1)
