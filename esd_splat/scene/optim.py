"""Adam for a scene whose number of Gaussians changes. No other module touches Adam's state."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from esd_splat.scene.densify import Edit, Rows
from esd_splat.scene.gaussians import Gaussians
from esd_splat.settings.schema import Field, section

MOMENTS = {"exp_avg", "exp_avg_sq"}
"""Keys of Adam's state that hold one row per Gaussian."""
MOST = 1e6
"""Upper limit of every learning rate, far above any useful one. It keeps products finite."""
GROWTH = 1.5
"""Factor by which a full buffer is enlarged, so that few edits have to copy the whole scene."""


Decay = Annotated[float, Field(ge=0, lt=1)]


@section
class Optim:
    """Settings of Adam. Each learning rate is per step and has the unit of its parameter.

    The defaults fit an object in the unit ball and a run of several hundred steps.
    """

    means: float = Field(default=0.005, gt=0, le=MOST)
    """Learning rate of the means at the start, in world units."""
    means_end: float = Field(default=0.0005, gt=0, le=MOST)
    """Learning rate of the means at the end, which it approaches exponentially, in world units."""
    quats: float = Field(default=0.01, ge=0, le=MOST)
    """Learning rate of the quaternions; 0 freezes them."""
    log_scales: float = Field(default=0.01, ge=0, le=MOST)
    """Learning rate of the logarithmic scales; 0 freezes them."""
    opacity_logits: float = Field(default=0.03, ge=0, le=MOST)
    """Learning rate of the opacities before the sigmoid; 0 freezes them."""
    sh0: float = Field(default=0.02, ge=0, le=MOST)
    """Learning rate of the view-independent colour; 0 freezes it."""
    shN: float = Field(default=0.001, ge=0, le=MOST)
    """Learning rate of the view-dependent colour; 0 freezes it."""
    # A new row starts with zero moments, but shares the step counter of the older rows. Its first
    # step is therefore (1 - beta1) / sqrt(1 - beta2) times the learning rate: exactly 1 times with
    # these values, and 3.2 times with beta2 = 0.999.
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """Decay rates of Adam's running means of the gradient and of its square."""
    eps: float = Field(default=1e-15, gt=0, le=MOST)
    """Term added to Adam's denominator. It is far below any gradient, so that scaling the loss does
    not change the steps."""
    max_norm: float = Field(default=0.0, ge=0, le=MOST)
    """Largest norm of the gradient of each parameter. A larger gradient is scaled down to it; 0
    disables clipping."""

    def rate(self, name: str, progress: float) -> float:
        """Return the learning rate of the scene's field ``name``.

        Args:
            name: a field of ``Gaussians``.
            progress: fraction of the run that is done, in [0, 1].

        Example:
            >>> [round(Optim().rate("means", progress), 4) for progress in (0.0, 0.5, 1.0)]
            [0.005, 0.0016, 0.0005]
        """
        if name == "means":
            return self.means * (self.means_end / self.means) ** progress
        return getattr(self, name)


def make_adam(gaussians: Gaussians, config: Optim) -> torch.optim.Adam:
    """Return Adam over a copy of ``gaussians``, with one named parameter group per field."""
    groups = [
        {
            "name": name,
            # Editing rows in place needs the contiguous layout.
            "params": [nn.Parameter(value.detach().clone(memory_format=torch.contiguous_format))],
            "lr": config.rate(name, progress=0.0),
        }
        for name, value in vars(gaussians).items()
    ]
    return torch.optim.Adam(groups, betas=config.betas, eps=config.eps)


def adam_state(optimizer: torch.optim.Adam) -> dict[str, Any]:
    """Return the optimizer's scene, moments, step counters and learning rates."""
    return {"scene": vars(scene_of(optimizer)), "adam": optimizer.state_dict()}


def restore_adam(state: Mapping[str, Any], device: torch.device | str = "cpu") -> torch.optim.Adam:
    """Rebuild an optimizer from its ``adam_state``. It continues as the original would have."""
    groups = [
        {"name": name, "params": [nn.Parameter(value.detach().to(device, copy=True))]}
        for name, value in state["scene"].items()
    ]
    optimizer = torch.optim.Adam(groups)
    optimizer.load_state_dict(state["adam"])
    return optimizer


def scene_of(optimizer: torch.optim.Optimizer) -> Gaussians:
    """Return the scene whose fields are the optimizer's current parameters."""
    return Gaussians(**{group["name"]: group["params"][0] for group in optimizer.param_groups})


def set_lr(optimizer: torch.optim.Optimizer, config: Optim, progress: float) -> None:
    """Set the learning rates for the next step.

    Args:
        progress: fraction of the run that is done, in [0, 1].
    """
    for group in optimizer.param_groups:
        group["lr"] = config.rate(group["name"], progress)


def clip_gradients(optimizer: torch.optim.Optimizer, config: Optim) -> None:
    """Scale the gradient of each field down to at most ``max_norm``, unless that is 0.

    A gradient that is not finite stays that way.
    """
    if config.max_norm == 0:
        return
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], config.max_norm)


def apply_edit(optimizer: torch.optim.Optimizer, edit: Edit) -> None:
    """Carry out ``edit`` on the scene and on Adam's moments in place.

    Afterwards the optimizer holds parameters of ``edit.count`` rows.
    """
    room = max(edit.count, len(scene_of(optimizer)))
    moments = [
        (state, key)
        for group in optimizer.param_groups
        if (state := optimizer.state.get(group["params"][0]))
        for key in sorted(state.keys() & MOMENTS)
    ]
    # Enlarge one tensor at a time, so that the memory of each is freed before the next one moves.
    for group in optimizer.param_groups:
        (parameter,) = group["params"]
        parameter.data = _with_room(parameter.data, room)
    for state, key in moments:
        state[key] = _with_room(state[key], room)
    scene = scene_of(optimizer).map(Tensor.detach)
    edit.carry_out(Rows(scene, [state[key] for state, key in moments]))
    for state, key in moments:
        state[key] = state[key][: edit.count]
    for group in optimizer.param_groups:
        (old,) = group["params"]
        new = nn.Parameter(old.detach()[: edit.count])
        if old in optimizer.state:
            optimizer.state[new] = optimizer.state.pop(old)
        group["params"] = [new]


def _with_room(rows: Tensor, room: int) -> Tensor:
    """Return ``rows`` extended to ``room`` rows; the contents of the additional rows are undefined.

    The result shares the storage of ``rows`` if that is large enough, and is a larger copy
    otherwise. The size of the storage says how much room was reserved, so nothing else has to be
    kept or saved.
    """
    shape, width = rows.shape[1:], rows.stride(0)
    end = (rows.storage_offset() + room * width) * rows.itemsize
    if width and rows.untyped_storage().nbytes() >= end:
        return rows.as_strided((room, *shape), rows.stride())
    larger = rows.new_empty(max(room, int(GROWTH * len(rows))), *shape)
    larger[: len(rows)] = rows
    return larger[:room]
