"""The real step on a GPU that is not there: devices, types, host waits, uploads and memory."""

import pytest
import torch
from torch import Tensor

from esd_splat.run.trainer import DTYPES
from tests.fakegpu.cases import CASES, Case, Result, step
from tests.fakegpu.device import CUDA
from tests.fakegpu.table import allowed


def check(result: Result) -> None:
    """Check that a run has no tensor of a wrong device or type, and cost what it may."""
    run, counts, config = result.run, result.counts, result.config
    assert not counts.faults
    assert counts.waits == allowed("waits", config, run.teacher.joint)
    assert counts.uploads == allowed("uploads", config, run.teacher.joint)

    moments = [x for state in run.optimizer.state.values() for x in state.values() if x.dim()]
    trained = run.lora.parameters if run.lora else []
    seen = run.seen
    assert seen is not None
    floats = [*vars(run.scene).values(), *moments, *trained, seen.images, seen.noisy]
    floats += seen.predictions.values()
    if run.recent is not None:
        floats += [run.recent.latents, run.recent.c2w]
    assert {(x.device, x.dtype) for x in floats} == {(CUDA, torch.float32)}
    assert {x.device for x in run.densify_state.values()} <= {CUDA}
    own = {id(x) for x in trained}
    frozen = {x.dtype for x in run.teacher.network.parameters() if id(x) not in own}
    assert frozen == {DTYPES[config.precision]}, f"weights of the network are in {frozen}"


def named(case: Case) -> str:
    return "-".join(case.values())


@pytest.mark.parametrize("case", CASES, ids=named)
def test_pairs_of_choices(case: Case) -> None:
    check(step(case))


@pytest.mark.parametrize("loss", ["sds", "esd"])
def test_the_second_step_costs_the_same(loss: str) -> None:
    check(step({"loss": loss}, steps=2))


@pytest.mark.parametrize(
    "keys",
    [
        ("loss={name: esd, camera: noise, marginal: pool, entropy_weight: 1}",),
        ("loss={name: esd, null_text: empty, entropy_weight: 0.5}",),
        ("loss=vsd", "lora.first_steps=2"),
        ("loss=sds", "timesteps.schedule=sqrt", "cameras.size_start=8"),
    ],
    ids=" ".join,
)
def test_further_choices(keys: tuple[str, ...]) -> None:
    check(step({}, *keys, steps=2))


@pytest.mark.parametrize("kernels", ["torch", "ours"])
@pytest.mark.parametrize("name", ["clone_split", "mcmc"])
def test_editing_the_scene(name: str, kernels: str) -> None:
    """An edit waits, as it must know how many Gaussians there are, but it moves nothing away."""
    edits = f"densify={{name: {name}, every: 2, window: [0, 1]}}"
    result = step({"loss": "sds", "kernels": kernels}, edits, steps=2)
    assert not result.counts.faults
    rows: list[Tensor] = [*vars(result.run.scene).values(), *result.run.densify_state.values()]
    assert {x.device for x in rows} == {CUDA}
