"""A step whose networks are on a GPU and whose scene is on the CPU, where our kernels draw.

The GPU is torch's device ``meta``, which has shapes but no values, and refuses to compute with
tensors of other devices.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from esd_splat.config import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.step_config import StepConfig
from esd_splat.scene import kernels
from tests.tiny import IMAGE_SIZE

aten = torch.ops.aten
KEYS = ("batch=3", "steps=8", f"cameras.size={IMAGE_SIZE}", "init.count=20", "lora.rank=2")


class Values(TorchDispatchMode):
    """Gives small values to what comes from ``meta``, and counts what crosses in each direction."""

    def __init__(self) -> None:
        super().__init__()
        self.down: list[torch.Size] = []
        self.up: list[torch.Size] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default and args[0].is_meta:
            return 0.5 if args[0].is_floating_point() else 1
        if func is aten._to_copy.default and (to := kwargs.get("device")) is not None:
            if args[0].is_meta and to.type == "cpu":
                self.down.append(args[0].shape)
                return torch.full(args[0].shape, 1e-3, dtype=kwargs.get("dtype", args[0].dtype))
            if to.type == "meta" and not args[0].is_meta:
                self.up.append(args[0].shape)
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and out.is_meta:
            assert out.dtype != torch.float64, f"{func} on a device that may lack float64"
        return out


@pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING or "-")
@pytest.mark.parametrize(
    "more",
    [
        ("loss=esd", "teacher.guidance_scale=3", "regularise.scale=1", "regularise.sparsity=1"),
        ("loss=esd", "image_loss=0.1", "memory.views_at_once=2"),
        ("loss=sds", "densify=mcmc"),
    ],
)
def test_only_pixels_and_their_gradients_cross(model: Path, more: tuple[str, ...]) -> None:
    keys = ["prompt=a red owl", f"teacher.model={model}", *KEYS, *more]
    config = load_config(None, keys)
    with Values() as crossing:
        teacher = config.teacher.load(torch.device("meta"), torch.float32, config.memory)
        run = Distillation(StepConfig.of(config), teacher, "cpu")
    assert {value.device.type for value in vars(run.scene).values()} == {"cpu"}
    before = run.scene.map(lambda value: value.detach().clone())
    with Values() as crossing:
        logged = run.step()
    after = run.scene
    assert logged["gaussians"] == len(after)
    assert all(value.isfinite().all() for value in vars(after).values())
    assert not torch.equal(before.means, after.means)
    assert not torch.equal(before.sh0, after.sh0)
    drawn = config.batch * 3 * IMAGE_SIZE**2
    assert sum(shape.numel() for shape in crossing.up if len(shape) == 4 and shape[1] == 3) == drawn
    pixels = [shape for shape in crossing.down if len(shape) == 4]
    assert sum(shape.numel() for shape in pixels) == drawn
    others = [shape for shape in crossing.down if len(shape) != 4]
    assert all(len(shape) < 4 and shape.numel() < drawn / 2 for shape in others), others
    assert all(len(run.scene) not in shape for shape in [*crossing.up, *crossing.down])
