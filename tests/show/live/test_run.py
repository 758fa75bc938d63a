"""Whole runs that are watched, paused, saved and stopped: they come to the same scene."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from esd_splat.distill.distillation import Distillation
from esd_splat.fit import fit, main
from esd_splat.run.checkpoint import load_checkpoint
from esd_splat.show.live import View, watch
from esd_splat.show.live.page import Page
from esd_splat.teacher import StableDiffusion
from tests.show.live import worlds

STEPS = 20


@pytest.fixture(scope="module")
def unseen(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run when nobody can look."""
    out = tmp_path_factory.mktemp("unseen") / "run"
    fit(worlds.config(model, out, "view=false"), quiet=True)
    return out


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Page]:
    """The pages that runs open, and what they are shown, as often as can be."""
    opened: list[Page] = []
    start = Page.__init__

    def remember(self: Page, *args: Any) -> None:
        start(self, *args)
        opened.append(self)

    monkeypatch.setattr(Page, "__init__", remember)
    monkeypatch.setattr(watch, "EVERY", 0.001)
    monkeypatch.setattr(watch, "SHARE", 1000.0)
    return opened


def _after_steps(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Do something after every step, told which, in the thread of the run."""
    step = Distillation.step

    def followed(self: Distillation) -> dict[str, float]:
        logged = step(self)
        act(self.done)
        return logged

    monkeypatch.setattr(Distillation, "step", followed)


def _beside(action: Callable[[], None]) -> None:
    threading.Thread(target=action).start()


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a == b


def _same(out: Path, other: Path) -> None:
    """The scene, and everything that a run would go on from."""
    for name in ("scene.ply", "contact_sheet.png"):
        assert (out / name).read_bytes() == (other / name).read_bytes(), name
    states = (load_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (out, other))
    assert _equal(*(state["run"] for state in states))


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        (),
        ("loss={name: esd, camera: noise, marginal: pool}", "pool.views=30"),
        ("loss=sds", "densify={name: mcmc, every: 6}"),
    ],
    ids=["lora", "pool", "sds"],
)
def test_looking_changes_no_bit(
    model: Path,
    tmp_path: Path,
    pages: list[Page],
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
) -> None:
    """Somebody looks all along, and every step is shown with pictures or entropies."""
    fit(worlds.config(model, tmp_path / "unseen", "view=false", *more), quiet=True)
    shown: dict[str, int] = {}
    for name in ("show_scene", "show_pictures", "show_entropies"):
        show = getattr(Page, name)

        def counted(*args: Any, name: str = name, show: Any = show) -> None:
            show(*args)
            shown[name] = shown.get(name, 0) + 1

        monkeypatch.setattr(Page, name, counted)
    show = View.between_steps

    def once_wanted(self: View, *args: Any) -> None:
        worlds.eventually(lambda: self.wanted)
        show(self, *args)

    monkeypatch.setattr(View, "between_steps", once_wanted)
    with ExitStack() as stack:

        def act(done: int) -> None:
            if done == 1:
                stack.enter_context(worlds.client(pages[0].port))

        _after_steps(monkeypatch, act)
        fit(worlds.config(model, tmp_path / "seen", *more), quiet=True)
    assert shown == {"show_scene": STEPS, "show_pictures": STEPS // 2, "show_entropies": STEPS // 2}
    _same(tmp_path / "seen", tmp_path / "unseen")


def test_a_paused_run_stands_still_saves_and_goes_on(
    model: Path, unseen: Path, tmp_path: Path, pages: list[Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, start, seen = tmp_path / "run", time.monotonic(), {}
    files = ("scene.ply", "checkpoints/last.ckpt")

    def meanwhile() -> None:
        controls = pages[0].controls
        assert not any((out / name).exists() for name in files)
        controls.save()
        worlds.eventually(lambda: not controls.saving)
        seen["files"] = all((out / name).exists() for name in files)
        seen["step"] = load_checkpoint(out / files[1])["run"]["done"]
        time.sleep(1.5 * (time.monotonic() - start))  # longer than all else takes
        controls.resume()

    def act(done: int) -> None:
        if done == 7:
            pages[0].controls.pause()
            _beside(meanwhile)

    with monkeypatch.context() as during:
        _after_steps(during, act)
        summary = fit(worlds.config(model, out, "checkpoint_every=0"), quiet=True)
    took = time.monotonic() - start
    assert seen == {"files": True, "step": 7}
    assert summary["seconds"] < took - pages[0].controls.rested, "a pause is no part of them"
    _same(out, unseen)


@pytest.mark.parametrize(("by", "paused"), [("the button", False), ("Ctrl-C", True)])
def test_a_stopped_run_leaves_a_scene_and_goes_on_to_the_same_bits(
    model: Path,
    unseen: Path,
    tmp_path: Path,
    pages: list[Page],
    monkeypatch: pytest.MonkeyPatch,
    by: str,
    paused: bool,
) -> None:
    out = tmp_path / "run"

    def stop() -> None:
        if by == "the button":
            pages[0].controls.stop()
        else:
            os.kill(os.getpid(), signal.SIGINT)

    def act(done: int) -> None:
        if done == 5:
            if paused:
                pages[0].controls.pause()
                threading.Timer(0.3, stop).start()
            else:
                stop()

    with monkeypatch.context() as during:
        _after_steps(during, act)
        with pytest.raises(KeyboardInterrupt):
            fit(worlds.config(model, out), quiet=True)
    assert (out / "scene.ply").exists()
    assert not (out / "summary.json").exists()
    assert load_checkpoint(out / "checkpoints" / "last.ckpt")["run"]["done"] == 5
    fit(worlds.config(model, out, "resume=true", "view=false"), quiet=True)
    _same(out, unseen)


def test_a_browser_that_is_killed_is_not_missed(
    model: Path, unseen: Path, tmp_path: Path, pages: list[Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(done: int) -> None:
        if done == 3:
            with worlds.client(pages[0].port) as client:
                worlds.eventually(lambda: pages[0].watched)
                client.socket.shutdown(socket.SHUT_RDWR)

    with monkeypatch.context() as during:
        _after_steps(during, act)
        fit(worlds.config(model, tmp_path / "run"), quiet=True)
    _same(tmp_path / "run", unseen)


def test_a_port_in_use_costs_no_weights_and_no_folder(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(StableDiffusion, "load", lambda *args: pytest.fail("weights were loaded"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        request = worlds.keys(model, tmp_path / "run", f"view_port={port}")
        assert main(request) == 2
    assert capsys.readouterr().err.startswith(f"esd_splat: view_port: {port} cannot be had")
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_takes_its_page_down(
    model: Path, tmp_path: Path, pages: list[Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    _after_steps(monkeypatch, lambda done: {}[done])
    with pytest.raises(KeyError):
        fit(worlds.config(model, tmp_path / "run"), quiet=True)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", pages[0].port)) != 0
    assert not any(thread.name == "view" for thread in threading.enumerate())
