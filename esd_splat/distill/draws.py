"""What is drawn at random for a step, on the host, and how it gets to the device in one copy."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from esd_splat.scene.cameras import Cameras
from esd_splat.types import Latents, Timesteps

PLAIN_BACKGROUNDS = {"white": 1.0, "grey": 0.5, "black": 0.0}
ALIGNMENT = 16
"""Every packed tensor starts at a multiple of this many bytes."""
Bytes = UInt8[Tensor, " n"]


def draw_backgrounds(kind: str, count: int, generator: torch.Generator) -> Float[Tensor, "b 3"]:
    """Return one plain colour for each view: random ones, or ``kind`` of ``PLAIN_BACKGROUNDS``."""
    if kind == "random":
        return torch.rand(count, 3, generator=generator)
    return torch.full((count, 3), PLAIN_BACKGROUNDS[kind])


class TrainingDraws(NamedTuple):
    """Everything that is drawn at random for one training step of the LoRA."""

    groups: Float[Tensor, " g"]
    """For each group of recent views to repeat, a number in [0, 1) that chooses it."""
    t: Timesteps
    noise: Latents
    dropped: Bool[Tensor, " b"]
    """Whether the camera of each row is dropped."""


class Drawn(NamedTuple):
    """Everything that is drawn at random for some views."""

    cameras: Cameras
    background: Float[Tensor, "b 3"]
    t: Timesteps
    noise: Latents | None
    """``None`` if the loss finds its own noise."""
    training: tuple[TrainingDraws, ...] = ()
    """One for each training step of the LoRA on these views."""
    scene_cameras: Cameras | None = None
    """The same cameras on the device of the scene, where ``to`` has put them."""

    def split(self, at_once: int | None) -> "list[Drawn]":
        """Split into microbatches of at most ``at_once`` views, for all but the LoRA's training."""
        count, most = len(self.t), at_once or len(self.t)
        if count <= most:
            return [self]
        cameras, background, t, noise, _, near = self
        return [
            Drawn(
                cameras[i],
                background[i],
                t[i],
                None if noise is None else noise[i],
                scene_cameras=near and near[i],
            )
            for i in (slice(start, start + most) for start in range(0, count, most))
        ]

    def to(self, device: torch.device, home: torch.device | None = None) -> "Drawn":
        """Return the same draws on ``device``. They cross in one copy, see ``moved``.

        Args:
            home: where the scene is: ``device``, or the CPU, where the draws are. So no camera
                comes back to it.
        """
        (viewmats, Ks, width, height), noise = vars(self.cameras).values(), self.noise
        flat = [viewmats, Ks, self.background, self.t]
        flat += [tensor for one in self.training for tensor in one]
        found = iter(moved([*flat, *([] if noise is None else [noise])], device))
        cameras = Cameras(next(found), next(found), width, height)
        background, t = next(found), next(found)
        training = tuple(TrainingDraws(*(next(found) for _ in one)) for one in self.training)
        near = self.cameras if home is not None and home.type == "cpu" else cameras
        return Drawn(cameras, background, t, next(found, None), training, near)


def moved(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return CPU tensors on ``device``, in a single copy that the host does not wait for.

    A copy of a few bytes keeps a GPU's driver as busy as one of a megabyte. On the CPU the tensors
    are returned as they are.
    """
    if device.type == "cpu":
        return list(tensors)
    packed = pack(tensors, pin_memory=device.type == "cuda")
    return unpack(packed.to(device, non_blocking=True), tensors)


def pack(tensors: Sequence[Tensor], pin_memory: bool = False) -> Bytes:
    """Return the values of CPU tensors, one after the other."""
    sizes = _sizes(tensors)
    packed = torch.zeros(sum(sizes), dtype=torch.uint8, pin_memory=pin_memory)
    for part, tensor in zip(packed.split(sizes), tensors, strict=True):
        part[: tensor.nbytes] = tensor.contiguous().view(-1).view(torch.uint8)
    return packed


def unpack(packed: Bytes, like: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors in what ``pack`` returned, on its device, shaped and typed as ``like``."""
    return [
        part[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for part, tensor in zip(packed.split(_sizes(like)), like, strict=True)
    ]


def _sizes(tensors: Sequence[Tensor]) -> list[int]:
    return [-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors]
