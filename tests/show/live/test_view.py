"""A run hands over copies when they are wanted, and the thread that wants them is seldom there."""

import threading
import time
from typing import Any

import pytest
import torch

from esd_splat.config import Config
from esd_splat.distill.distillation import Distillation
from esd_splat.show.live import View, watch
from esd_splat.show.live.watch import Snapshot
from tests.show.live import worlds
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Distillation]:
    folder = tmp_path_factory.mktemp("tiny")
    return worlds.begun(worlds.config(save_tiny(folder / "model"), folder / "run"))


@pytest.fixture
def run(begun: tuple[Config, Distillation]) -> Distillation:
    return begun[1]


@pytest.fixture
def view(begun: tuple[Config, Distillation]) -> View:
    """Of that run, with nobody at it yet."""
    return View(begun[0])


class FakePage:
    """Counts what it is shown."""

    def __init__(self, watched: bool) -> None:
        self.watched = watched
        self.shown: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.shown.append(name)


def _watched(
    view: View,
    page: FakePage,
    feed: Any,
    seconds: float,
    clock: Any = time.monotonic,
    enough: Any = lambda: True,
) -> float:
    """Let ``feed`` run beside the thread for so long or ``enough``, and say how long it was."""
    closing, start = threading.Event(), clock()
    thread = threading.Thread(target=watch.watch, args=(view, page, closing))
    thread.start()
    while clock() < start + seconds or not (enough() or clock() > start + 100):
        feed()
    closing.set()
    view.handed.put(None)
    thread.join()
    return clock() - start


def test_nothing_is_handed_over_that_nobody_wants(run: Distillation, view: View) -> None:
    view.between_steps(run, {}, None)
    assert view.handed.empty()
    view.wanted = True
    view.between_steps(run, {}, None)
    view.between_steps(run, {}, None)
    assert view.handed.qsize() == 1


def test_a_snapshot_stays_as_it_was(run: Distillation, view: View) -> None:
    view.wanted = True
    view.between_steps(run, {"direction": 1.0}, None)
    snapshot = view.handed.get()
    assert snapshot is not None
    before = [value.clone() for value in vars(snapshot.scene).values()]
    assert snapshot.seen is not None
    noisy, step = snapshot.seen.noisy.clone(), run.done
    run.step()
    assert not run.scene.means.equal(snapshot.scene.means), "the run went on"
    assert snapshot.step == step
    assert all(a.equal(b) for a, b in zip(vars(snapshot.scene).values(), before, strict=True))
    assert snapshot.seen.noisy.equal(noisy)
    assert not any(value.requires_grad for value in vars(snapshot.scene).values())


@pytest.mark.parametrize("end", ["the last step", "stopped"])
def test_how_a_run_ends_is_shown_unasked(
    run: Distillation, view: View, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if end == "stopped":
        view.controls.stop()
    else:
        monkeypatch.setattr(run, "done", view.config.steps)
    view.between_steps(run, {}, None)
    view.between_steps(run, {}, None)
    assert view.handed.qsize() == 1, "a pause after the last step hands over no second one"


def test_snapshots_are_no_more_than_the_rate_allows(run: Distillation, view: View) -> None:
    page = FakePage(watched=True)

    def feed() -> None:
        view.between_steps(run, {"gaussians": 1.0}, None)
        time.sleep(1e-3)

    def shown() -> int:
        return page.shown.count("show_scene")

    seconds = _watched(view, page, feed, 1.0, enough=lambda: shown() >= 3)
    assert 3 <= shown() <= seconds / watch.EVERY + 1


def test_nobody_looks_and_nothing_is_handed_over(run: Distillation, view: View) -> None:
    page = FakePage(watched=False)
    _watched(view, page, lambda: view.between_steps(run, {}, None), 1.2)
    assert page.shown == []


def test_pictures_and_entropies_stay_in_their_share(
    run: Distillation, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is made to burn 10 ms of the processor, and every snapshot is of another step."""
    burnt: list[str] = []

    def burn(name: str) -> Any:
        def busy(page: FakePage, now: Snapshot) -> None:
            burnt.append(name)
            until = time.thread_time() + 0.01
            while time.thread_time() < until:
                pass

        return busy

    monkeypatch.setattr(watch, "_show_pictures", burn("pictures"))
    monkeypatch.setattr(watch, "_show_entropies", burn("entropies"))
    monkeypatch.setattr(watch, "EVERY", 0.01)
    page = FakePage(watched=True)
    monkeypatch.setattr(run, "done", -100_000)

    def feed() -> None:
        run.done += 1
        view.between_steps(run, {}, None)

    seconds = _watched(view, page, feed, 2.0, time.process_time, lambda: len(burnt) >= 2)
    assert burnt[:2] == ["pictures", "entropies"], "they take turns"
    assert len(burnt) * 0.01 <= watch.SHARE * seconds + 0.01


def test_what_cannot_be_shown_takes_neither_page_nor_run_down(
    run: Distillation, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(page: FakePage, now: Snapshot) -> None:
        raise torch.OutOfMemoryError("the device is full")

    monkeypatch.setattr(watch, "_show_pictures", full)
    monkeypatch.setattr(watch, "EVERY", 0.01)
    page = FakePage(watched=True)

    def feed() -> None:
        view.between_steps(run, {"gaussians": 1.0}, None)
        time.sleep(1e-3)

    _watched(view, page, feed, 0.0, enough=lambda: page.shown.count("show_scene") >= 3)
    assert page.shown.count("show_scene") >= 3
    assert "show_pictures" in page.shown
