"""Whether pictures show a scene, the right way round: what a file has to pass in every viewer."""

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.scene.cameras import Cameras, look_at_origin, orbit_cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import rasterize
from esd_splat.types import Images

SIDES = {"front": 0.0, "side": 90.0, "back": 180.0}
"""Azimuth of each view, degrees."""
LEAST_DB = 30.0
"""PSNR between a viewer's picture and ours of the same scene."""
LEAD_DB = 8.0
"""What the right pose must be ahead of every wrong one."""

Signs = tuple[float, float, float]
UPRIGHT: Signs = (1.0, 1.0, 1.0)


def cameras(size: int = 256) -> Cameras:
    """From all ``SIDES``, a little from above."""
    azimuth = torch.tensor(list(SIDES.values()))
    flat = torch.ones_like(azimuth)
    return orbit_cameras(azimuth, 12 * flat, 3.2 * flat, 40 * flat, size)


@dataclass(frozen=True)
class Expected:
    """Our pictures of a scene from the three sides, right and in every wrong pose."""

    poses: dict[Signs, Images]
    """By the signs of the scene's axes: two reversed ones are a turn by 180 degrees, one or three
    are a mirror."""

    @classmethod
    def of(cls, scene: Gaussians, cameras: Cameras) -> "Expected":
        """Drawn by our own rasterizer."""
        one = (1.0, -1.0)
        every = itertools.product(one, one, one)
        return cls({signs: posed(scene, cameras, signs) for signs in every})

    def problems(self, pictures: Images) -> list[str]:
        """Why ``pictures`` are not of this scene; nothing where they are."""
        found = []
        right = psnr(pictures, self.poses[UPRIGHT]).tolist()
        for signs, images in self.poses.items():
            for side, db, other in zip(SIDES, right, psnr(pictures, images).tolist(), strict=True):
                if signs == UPRIGHT and not db >= LEAST_DB:
                    found.append(f"{side}: {db:.1f} dB")
                if signs != UPRIGHT and not db - other >= LEAD_DB:
                    found.append(f"{side}: {db:.1f} dB, {other:.1f} dB if turned by {signs}")
        return found


def posed(scene: Gaussians, cameras: Cameras, signs: Signs = UPRIGHT) -> Images:
    """Our pictures, over black, of the scene with some axes reversed.

    Drawn from the camera in the reversed place, and flipped to what the reversed camera would see:
    no quaternion or colour has to be reversed, in which the same mistake could hide.
    """
    reverse = torch.tensor(signs)
    viewmats = look_at_origin(cameras.eyes * reverse)
    black = torch.zeros(len(cameras), 3)
    there = Cameras(viewmats, cameras.Ks, cameras.width, cameras.height)
    images = rasterize(scene, there, black, "auto").images.clamp(0, 1)
    # Columns: whether right, and whether down, is the other way round in the reversed camera.
    axes = cameras.viewmats[:, :2, :3] * reverse
    flips = (axes * viewmats[:, :2, :3]).sum(dim=2) < 0
    for n, (across, down) in enumerate(flips.tolist()):
        images[n] = images[n].flip([2] * across + [1] * down)
    return images


def psnr(a: Images, b: Images) -> Float[Tensor, " b"]:
    """Of each picture, dB; infinite for equal ones."""
    return -10 * (a - b).square().mean(dim=(1, 2, 3)).log10()
