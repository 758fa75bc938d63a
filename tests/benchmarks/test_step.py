"""The floor of a step is made of the passes that the step itself makes."""

from pathlib import Path

import pytest
import torch

from benchmarks.step import METHODS, Passes, measure
from esd_splat import load_config
from esd_splat.config import Config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.step_config import StepConfig
from esd_splat.teacher import Memory
from tests.tiny import IMAGE_SIZE

CPU = torch.device("cpu")


def _config(model: Path, method: str) -> Config:
    config, *overrides = METHODS[method]
    tiny = [f"teacher.model={model}", f"cameras.size={IMAGE_SIZE}", "init.count=20", "batch=2"]
    return load_config(config, [*overrides, *tiny, "prompt=a red owl", "backend=reference"])


@pytest.mark.parametrize(
    ("method", "rows", "trained"),
    [
        ("esd", [4], [2]),
        ("esd_pool", [2], []),
        ("sds, guidance 5", [4], []),
        ("esd_paper", [6], [2]),
        ("ism", [2] * 6, []),
    ],
)
def test_the_floor_makes_the_passes_of_the_step_again(
    model: Path, monkeypatch: pytest.MonkeyPatch, method: str, rows: list[int], trained: list[int]
) -> None:
    config = _config(model, method)
    # Hooks see every pass only if it is not recorded.
    teacher = config.teacher.load(CPU, torch.float32, Memory(trace=False))
    run = Distillation(StepConfig.of(config), teacher, "reference")
    passes, seen = Passes(run), []
    with passes.recorded():
        run.step()
    assert [len(inputs[0]) for *_, inputs in passes.asked] == rows
    assert [len(inputs[0]) for *_, inputs in passes.trained] == trained
    assert [len(images) for images in passes.images] == [2]
    before = [value.clone() for value in vars(run.scene).values()]
    run.teacher.network.register_forward_hook(lambda m, i, output: seen.append(len(output.sample)))
    passes.again()
    assert sorted(seen) == sorted(rows + trained)
    after = vars(run.scene).values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_method_is_measured_whole_and_in_parts(model: Path) -> None:
    found = measure(_config(model, "esd_paper"), CPU, steps=2)
    assert found.keys() >= {"whole", "networks", "asking", "training", "the rest", "waking"}
    assert found["waking"] < found["asking"] + found["training"]
    assert all(value > 0 for value in found.values())
