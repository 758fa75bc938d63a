"""Planted faults are found, each by the check that is there for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from esd_splat.distill.distillation import Distillation
from tests.fakegpu.cases import Result, step
from tests.fakegpu.device import CUDA, fake_gpu
from tests.fakegpu.sizes import step_at_size
from tests.fakegpu.table import allowed, check_memory
from tests.fakegpu.test_steps import check

Plant = Callable[[Distillation], None]
CASE = {"loss": "sds", "precision": "bf16-mixed"}
PLACE = "distill/distillation.py encode"
"""Where ``cost`` plants its work."""


def after(owner: Any, name: str, change: Callable[[Any], Any]) -> None:
    """Make the method ``name`` of one object return what ``change`` makes of its result."""
    function = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: change(function(*args, **kwargs)))


def test_nothing_is_found_where_nothing_is_planted() -> None:
    result = step(CASE)
    assert not result.counts.faults
    assert result.counts.waits == allowed("waits", result.config)
    assert result.counts.uploads == allowed("uploads", result.config)


def test_the_noise_of_a_cpu_generator_that_is_not_moved() -> None:
    def plant(run: Distillation) -> None:
        after(run, "_draw", lambda views: views._replace(noise=views.noise.cpu()))

    with pytest.raises(RuntimeError, match=r"same device|different devices"):
        step(CASE, plant=plant)


def test_indices_that_are_not_moved() -> None:
    """torch takes these silently, and uploads them in every step."""

    def plant(run: Distillation) -> None:
        after(run.teacher, "encode", lambda latents: latents[torch.arange(2)])

    faults = step(CASE, plant=plant).counts.faults
    assert any("aten.index.Tensor takes cpu and cuda:0" in fault for fault in faults)


@pytest.mark.parametrize("layer", ["conv_norm_out", "conv_out"])
def test_a_weight_in_float32_in_a_layer_of_bfloat16(layer: str) -> None:
    def plant(run: Distillation) -> None:
        module: Any = run.teacher.network.get_submodule(layer)
        module.weight = torch.nn.Parameter(module.weight.float(), requires_grad=False)

    faults = step(CASE, plant=plant).counts.faults
    assert any("takes torch.bfloat16 and torch.float32 @ diffusers" in fault for fault in faults)


def test_a_layer_that_is_all_in_float32() -> None:
    """No operator takes two types, as its input is converted, but its weights are not as asked."""

    def plant(run: Distillation) -> None:
        layer = run.teacher.network.get_submodule("conv_out").float()
        layer.register_forward_pre_hook(lambda module, inputs: (inputs[0].float(),))

    result = step(CASE, plant=plant)
    assert not result.counts.faults
    with pytest.raises(AssertionError, match="weights of the network are in"):
        check(result)


def test_one_more_item() -> None:
    found = cost(lambda x: x.sum().item())
    assert found.counts.waits - allowed("waits", found.config) == {PLACE: 1}


def test_one_more_upload() -> None:
    found = cost(lambda x: x + torch.ones(3).to(CUDA))
    assert found.counts.uploads - allowed("uploads", found.config) == {PLACE: 1}


def test_memory_above_the_table() -> None:
    def plant(run: Distillation) -> None:
        kept: list[Tensor] = []

        def keep(latents: Tensor) -> Tensor:
            kept.append(latents.repeat(64, 8, 8, 8))
            return latents

        after(run.teacher, "encode", keep)

    check_memory("tiny-sd", step_at_size("tiny-sd").counts.peak)
    with pytest.raises(AssertionError, match="and may take"):
        check_memory("tiny-sd", step_at_size("tiny-sd", plant=plant).counts.peak)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x.unique(),
        lambda x: bool((x > 0).any()),
        lambda x: torch.linalg.inv(x.diag()),
    ],
    ids=["nonzero", "mask", "masked_select", "cpu", "tolist", "unique", "bool", "inv"],
)
def test_each_way_to_wait_counts_once(wait: Callable[[Tensor], Any]) -> None:
    with fake_gpu() as counts:
        wait(torch.ones(4, device=CUDA))
        assert counts.waits.total() == 1


@pytest.mark.parametrize(
    "upload",
    [
        lambda: torch.ones(3).to(CUDA),
        lambda: torch.ones(3).to(CUDA, non_blocking=True),
        lambda: torch.tensor([1.0, 2.0], device=CUDA),
        lambda: torch.zeros(3, device=CUDA).copy_(torch.ones(3)),
    ],
    ids=["to", "non_blocking", "tensor", "copy_"],
)
def test_each_way_to_upload_counts_once(upload: Callable[[], Any]) -> None:
    with fake_gpu() as counts:
        upload()
        assert counts.uploads.total() == 1
        assert not counts.waits


def test_filling_by_a_mask_does_not_wait() -> None:
    with fake_gpu() as counts:
        x = torch.ones(4, device=CUDA)
        x[x > 0] = 2.0
        assert not counts.waits


def cost(work: Callable[[Tensor], Any]) -> Result:
    """A step that also does ``work`` on the latents."""

    def change(latents: Tensor) -> Tensor:
        work(latents[0, 0, 0, :3])
        return latents

    return step(CASE, plant=lambda run: after(run.teacher, "encode", change))
