"""What stops a run after a step."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from esd_splat.distill.checks import checked
from esd_splat.errors import RunError
from tests.scene.rasterize.scenes import random_scene

SEEN = torch.tensor([[True, False, True]])
NAN, INF = float("nan"), float("inf")


def _means(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_values_come_back_as_they_are() -> None:
    means = _means(direction=0.1, lora=2.5)
    assert checked(means, SEEN, random_scene(3), 1) == {
        name: value.item() for name, value in means.items()
    }


def test_the_device_is_waited_for_once() -> None:
    reads: list[str] = []

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function._overloadpacket in (
                torch.ops.aten._local_scalar_dense,
                torch.ops.aten.nonzero,
                torch.ops.aten.equal,
            ):
                reads.append(str(function))
            return function(*args, **kwargs or {})

    with Reads():
        checked(_means(direction=0.1, lora=2.5), SEEN, random_scene(3), 1)
    assert reads == []  # the one read is by tolist, which is no operator


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_not_finite_is_named(bad: float) -> None:
    scene = random_scene(3)
    scene.means[1, 2] = bad
    with pytest.raises(RunError, match=r"step 7: lora, means turned NaN or infinite"):
        checked(_means(direction=0.1, lora=bad), SEEN, scene, 7)


def test_a_scene_that_cannot_be_seen_is_refused() -> None:
    scene = random_scene(3)
    with pytest.raises(RunError, match=r"step 2: all 3 .* none is visible in any of 1 views"):
        checked(_means(direction=0.1), torch.zeros_like(SEEN), scene, 2)
    scene.opacity_logits[:] = -20.0
    with pytest.raises(RunError, match="none has the least opacity"):
        checked(_means(direction=0.1), SEEN, scene, 2)
