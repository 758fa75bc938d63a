"""What accompanies a run is called when its interface says so, and the run does without any."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from esd_splat.distill.distillation import Distillation
from esd_splat.errors import OutputError
from esd_splat.run import trainer
from esd_splat.run.checkpoint import load_checkpoint
from esd_splat.run.controls import Controls
from esd_splat.run.observer import Observer
from tests.tiny import tiny_config


class Witness(Observer):
    """Writes down what it is called for, and which files are there then."""

    def __init__(self, folder: Path, *, stops_at: int | None = None) -> None:
        self.folder, self.stops_at = folder, stops_at
        self.calls: list[str] = []
        self.done = 0

    def _note(self, call: str) -> None:
        there = [name for name in ("scene.ply", "summary.json") if (self.folder / name).exists()]
        self.calls.append(" ".join([call, *there]))

    @override
    def check(self) -> None:
        self._note("check")

    @override
    @contextmanager
    def during(self, controls: Controls, say: Callable[[str], None]) -> Iterator[None]:
        self.controls = controls
        self._note("begins")
        try:
            yield
        finally:
            self._note("ends")

    @override
    def restore(self, state: Mapping[str, Any]) -> None:
        self._note(f"restored from step {state.get('witnessed')}")

    @override
    def after_step(self, run: Distillation) -> None:
        self.done = run.done
        self._note(f"after step {run.done}")

    @override
    def state(self) -> dict[str, Any]:
        self._note("state")
        return {"witnessed": self.done}

    @override
    def between_steps(
        self, run: Distillation, logged: dict[str, float], saved_at: int | None
    ) -> None:
        assert logged["gaussians"] == len(run.scene)
        self._note(f"between, saved at {saved_at}")
        if run.done == self.stops_at:
            self.controls.stop()

    @override
    def before_summary(self, run: Distillation) -> None:
        self._note("before the summary")

    @override
    def after_summary(self) -> None:
        self._note("after the summary")


def test_each_method_is_called_at_its_time(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = tiny_config(model, out, "steps=3", "checkpoint_every=2")
    cut = Witness(out, stops_at=2)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(config, [cut], quiet=True)
    assert cut.calls == [
        *("check", "begins", "after step 1", "between, saved at None"),
        *("after step 2", "state", "between, saved at 2", "state", "ends scene.ply"),
    ]
    rest = Witness(out)
    trainer.run(tiny_config(model, out, "steps=3", "checkpoint_every=2", "resume=true"), [rest])
    assert [call.removesuffix(" scene.ply") for call in rest.calls[:-2]] == [
        *("check", "begins", "restored from step 2", "after step 3", "between, saved at 2"),
        *("state", "before the summary"),
    ]
    everything = "scene.ply summary.json"
    assert rest.calls[-2:] == [f"after the summary {everything}", f"ends {everything}"]


def test_a_run_without_observers_writes_numbers_and_a_scene(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer.run(tiny_config(model, out, "export.report=true", "log.sheet_every=1"), quiet=True)
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {
        *("config.yaml", "scene.ply", "metrics.csv", "summary.json", "checkpoints/last.ckpt")
    }


def test_an_observer_that_cannot_do_its_work_costs_nothing(model: Path, tmp_path: Path) -> None:
    class Refuses(Observer):
        @override
        def check(self) -> None:
            raise OutputError("no paper")

    out = tmp_path / "run"
    witness = Witness(out)
    with pytest.raises(OutputError, match="no paper"):
        trainer.run(tiny_config(model, out), [Refuses(), witness], quiet=True)
    assert witness.calls == []
    assert not out.exists()


def test_what_fails_before_the_summary_is_done_again_on_resuming(
    model: Path, tmp_path: Path
) -> None:
    class Fails(Observer):
        @override
        def before_summary(self, run: Distillation) -> None:
            raise OutputError("no paper")

    out = tmp_path / "run"
    with pytest.raises(OutputError, match=r"no paper; .*resume=true writes the rest"):
        trainer.run(tiny_config(model, out), [Fails()], quiet=True)
    assert not (out / "summary.json").exists()
    witness = Witness(out)
    assert trainer.run(tiny_config(model, out, "resume=true"), [witness], quiet=True)["steps"] == 3
    assert witness.calls[2:] == [
        *("restored from step None scene.ply", "state scene.ply", "before the summary scene.ply"),
        *("after the summary scene.ply summary.json", "ends scene.ply summary.json"),
    ]


def test_observers_and_the_run_share_one_place_in_the_checkpoint(
    model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    trainer.run(tiny_config(model, out), [Observer(), Witness(out)], quiet=True, until=1)
    state = load_checkpoint(out / "checkpoints" / "last.ckpt")["record"]
    assert state.keys() == {"rows", "diagnoses", "seconds", "witnessed"}
