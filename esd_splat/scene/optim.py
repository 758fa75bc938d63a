"""Optimizer over a scene whose number of rows changes. The only code that touches Adam's state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from esd_splat.errors import check
from esd_splat.scene.densify import Edit, Rows
from esd_splat.scene.gaussians import Gaussians

MOMENTS = {"exp_avg", "exp_avg_sq"}
"""What Adam remembers of every row."""
MOST = 1e6
"""Upper limit of every rate, far beyond use; products with it stay finite."""
GROWTH = 1.5
"""Room made at a time, over the rows there are: few edits have to move the whole scene."""


@dataclass(frozen=True)
class Optim:
    """Adam's settings. Learning rates are per step and in the unit of the parameter they move.

    The defaults fit an object in the unit ball and a run of several hundred steps.
    """

    means: float = 0.005
    """Learning rate of the centres at the start, world units, in (0, 1e6]."""
    means_end: float = 0.0005
    """Learning rate of the centres at the end, which it approaches exponentially, in (0, 1e6]."""
    quats: float = 0.01
    """Learning rate of the orientations, in [0, 1e6]; 0 freezes them."""
    log_scales: float = 0.01
    """Learning rate of the logarithmic scales, in [0, 1e6]; 0 freezes them."""
    opacity_logits: float = 0.03
    """Learning rate of the opacities before the sigmoid, in [0, 1e6]; 0 freezes them."""
    sh0: float = 0.02
    """Learning rate of the view-independent colour, in [0, 1e6]; 0 freezes it."""
    shN: float = 0.001
    """Learning rate of the view-dependent colour, in [0, 1e6]; 0 freezes it."""
    # With moments at zero and a step counter that is not, the first step of a new row is
    # (1 - beta1) / sqrt(1 - beta2) learning rates long: exactly 1 here, 3.2 with beta2 = 0.999.
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of Adam's running mean of the gradient and of its square, each in [0, 1)."""
    eps: float = 1e-15
    """Added to Adam's denominator, above 0; far below any gradient, so that the loss's weight
    cancels."""
    max_norm: float = 0.0
    """Longest gradient of each parameter before it is scaled down, at least 0; 0 switches clipping
    off."""

    def __post_init__(self) -> None:
        rates = ("quats", "log_scales", "opacity_logits", "sh0", "shN", "max_norm")
        checks = {name: (0 <= getattr(self, name) <= MOST, f"in [0, {MOST:g}]") for name in rates}
        for name in ("means", "means_end", "eps"):
            checks[name] = (0 < getattr(self, name) <= MOST, f"in (0, {MOST:g}]")
        checks["betas"] = (all(0 <= beta < 1 for beta in self.betas), "in [0, 1)")
        check(self, checks)

    def rate(self, name: str, progress: float) -> float:
        """Learning rate of the field ``name`` of a scene after ``progress`` of the run, in [0, 1].

        Example:
            >>> [round(Optim().rate("means", progress), 4) for progress in (0.0, 0.5, 1.0)]
            [0.005, 0.0016, 0.0005]
        """
        if name == "means":
            return self.means * (self.means_end / self.means) ** progress
        return getattr(self, name)


def make_adam(gaussians: Gaussians, config: Optim) -> torch.optim.Adam:
    """Adam with one named parameter group per field of ``gaussians``, which is copied."""
    groups = [
        {
            "name": name,
            # Rows one after another: they will be edited in place.
            "params": [nn.Parameter(value.detach().clone(memory_format=torch.contiguous_format))],
            "lr": config.rate(name, progress=0.0),
        }
        for name, value in vars(gaussians).items()
    ]
    return torch.optim.Adam(groups, betas=config.betas, eps=config.eps)


def adam_state(optimizer: torch.optim.Adam) -> dict[str, Any]:
    """The scene an optimizer holds, with its moments, step counters and learning rates."""
    return {"scene": vars(scene_of(optimizer)), "adam": optimizer.state_dict()}


def restore_adam(state: Mapping[str, Any], device: torch.device | str = "cpu") -> torch.optim.Adam:
    """The optimizer that ``adam_state`` described; it goes on as the original would have."""
    groups = [
        {"name": name, "params": [nn.Parameter(value.detach().to(device, copy=True))]}
        for name, value in state["scene"].items()
    ]
    optimizer = torch.optim.Adam(groups)
    optimizer.load_state_dict(state["adam"])
    return optimizer


def scene_of(optimizer: torch.optim.Optimizer) -> Gaussians:
    """The scene whose fields are the optimizer's current parameters."""
    return Gaussians(**{group["name"]: group["params"][0] for group in optimizer.param_groups})


def set_lr(optimizer: torch.optim.Optimizer, config: Optim, progress: float) -> None:
    """Learning rates for the next step, after ``progress`` of the run, in [0, 1]."""
    for group in optimizer.param_groups:
        group["lr"] = config.rate(group["name"], progress)


def clip_gradients(optimizer: torch.optim.Optimizer, config: Optim) -> None:
    """Scale down each field's gradient to ``max_norm``. One that is not finite stays so."""
    if config.max_norm == 0:
        return
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], config.max_norm)


def apply_edit(optimizer: torch.optim.Optimizer, edit: Edit) -> None:
    """Edit the optimized scene and its moments in place, and show the optimizer the new rows."""
    room = max(edit.count, len(scene_of(optimizer)))
    moments = [
        (state, key)
        for group in optimizer.param_groups
        if (state := optimizer.state.get(group["params"][0]))
        for key in sorted(state.keys() & MOMENTS)
    ]
    # One by one: what has to move is freed before the next needs its place.
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
    """``rows`` and meaningless ones up to ``room``; moved if the memory behind them ends before.

    Only the memory knows how much was reserved: nothing else has to be kept or saved.
    """
    shape, width = rows.shape[1:], rows.stride(0)
    end = (rows.storage_offset() + room * width) * rows.itemsize
    if width and rows.untyped_storage().nbytes() >= end:
        return rows.as_strided((room, *shape), rows.stride())
    larger = rows.new_empty(max(room, int(GROWTH * len(rows))), *shape)
    larger[: len(rows)] = rows
    return larger[:room]
