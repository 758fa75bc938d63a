"""Kills runs at each of their file events, and checks that they go on to the same bits and files.

A file event is what ``sys.addaudithook`` reports of the run's folder: opening, creating, renaming
and removing files and folders, and starting ffmpeg. A run is killed right before one of them. All
runs are forked from one process that has the imports done and has run nothing itself, because
PyTorch's autograd cannot be used in the child of a process that has used it.

``python -m tests.run.killed`` tries all events of the three ways to start a run, in some ten
minutes. With a number behind it, it tries a sample of so many of each, which is drawn by the day.
"""

import csv
import datetime
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import esd_splat.show.pages.orbit as orbit
import esd_splat.show.report as show_report
from esd_splat.config import Config, load_config
from esd_splat.errors import CheckpointError, OutputError
from esd_splat.fit import fit
from esd_splat.run.folder import CONFIG, check_folder
from esd_splat.show.pages import curves
from tests.tiny import save_tiny, tiny_config

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "shutil.rmtree")
KEYS = (
    *("steps=4", "checkpoint_every=2", "log.every=1", "log.sheet_every=2", "batch=1"),
    *("loss=sds", "export.formats=[ply,spz]", "export.report=true", "export.sheet_views=2"),
    "memory.trace=false",
)
OLD = (
    *("steps=2", "seed=5", "log.diagnose_every=1", "export.formats=[ply,splat]"),
    *("export.video=gif", "loss=vsd", "export.report=false"),
)
"""Another run that ``overwrite=true`` replaces. It leaves files that the new one does not write."""


def forked(work: Callable[[], object]) -> int:
    """Do ``work`` in a child process and return its exit status, or minus a signal's number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        torch.set_num_threads(1)
        work()
        status = 0
    except CheckpointError:
        status = 2
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def armed(folder: Path, last: int, log: Path) -> None:
    """Log all file events of ``folder`` in this process, and kill it before the one at ``last``."""
    lines = log.open("w")
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "subprocess.Popen":
            named = " ".join(map(str, arguments[1]))
        elif event in EVENTS:
            named = " ".join(map(str, arguments[:2]))
        else:
            return
        if str(folder) in named:
            lines.write(f"{event} {named}\n".replace(str(folder), "run"))
            lines.flush()
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def content(folder: Path) -> dict[str, str]:
    """What must be the same in ``folder`` however often a run was killed, by file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name, data = str(path.relative_to(folder)), path.read_bytes() if path.is_file() else b""
        if name == "metrics.csv":
            rows = list(csv.DictReader(data.decode().splitlines()))
            data = repr([{k: v for k, v in row.items() if k != "seconds"} for row in rows]).encode()
        elif name == "summary.json":
            measured = ("seconds", "steps_per_second", "peak_memory_mb")
            summary = {k: v for k, v in json.loads(data).items() if k not in measured}
            data = repr(summary).encode()
        elif name == CONFIG:
            config = vars(load_config(path))
            data = repr(
                {k: v for k, v in config.items() if k not in ("out", "resume", "overwrite")}
            )
            data = data.encode()
        elif name in ("report.html", "checkpoints/last.ckpt"):  # they hold seconds
            data = b""
        found[name] = hashlib.sha256(data).hexdigest()
    return found


class Law:
    """Runs in folders below ``base``."""

    way = "plain"
    """How the run is started that is killed: ``plain``, ``overwrite`` or ``resume``."""

    def __init__(self, base: Path) -> None:
        self.base, self.model, self.out = base, base / "model", base / "run"
        save_tiny(self.model)
        self.import_all()
        # What takes time and writes no file is done once, or left out.
        orbit.CAMERAS = type(orbit.CAMERAS)(size=16)
        show_report.curves = lambda *rows, **how: curves([])
        torch.set_num_threads(1)
        config = self.config(self.out)
        teacher = config.teacher.load(torch.device("cpu"), torch.float32, config.memory)
        kind: Any = type(config.teacher)
        kind.load = lambda *settings: teacher
        self.run(base / "whole")
        self.expected = content(base / "whole")
        self.run(base / "overwrite", *OLD)
        self.run(base / "resume", until=2)

    def import_all(self) -> None:
        """Import what runs import, as the runs that are forked later need not do so again."""
        names = self.base / "modules"

        def work() -> None:
            for number, keys in enumerate((KEYS, OLD)):
                fit(self.config(self.base / f"imports{number}", *keys), quiet=True)
            names.write_text("\n".join(sys.modules))

        assert forked(work) == 0
        for name in names.read_text().split("\n"):
            with suppress(Exception):
                importlib.import_module(name)

    def config(self, out: Path, *more: str) -> Config:
        given = {key.partition("=")[0]: key for key in (*KEYS, *more)}
        return tiny_config(self.model, out, *given.values())

    def run(self, out: Path, *more: str, until: int | None = None) -> None:
        status = forked(lambda: fit(self.config(out, *more), quiet=True, until=until))
        assert status == 0, f"{more} ended with {status}"

    def killed(self, event: int) -> int:
        """Start the run and kill it before ``event``; 0 kills it at none."""
        shutil.rmtree(self.out, ignore_errors=True)
        more = ()
        if self.way != "plain":
            shutil.copytree(self.base / self.way, self.out)
            more = (f"{self.way}=true",)

        def work() -> None:
            armed(self.out, event, self.base / "events")
            fit(self.config(self.out, *more), quiet=True)

        return forked(work)

    def events(self) -> list[str]:
        """The file events of the run, with which it ends as expected."""
        assert self.killed(0) == 0
        self.compare()
        return (self.base / "events").read_text().splitlines()

    def try_event(self, event: int) -> None:
        """Kill the run before ``event`` and go on with it in each way that a user may try."""
        assert self.killed(event) == -signal.SIGKILL
        if self.way == "plain" and not (self.out / CONFIG).exists() and self.out.exists():
            check_folder(self.config(self.out))
        kept = self.base / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        if self.way == "overwrite":
            shutil.copytree(self.out, kept)
            self.run(self.out, "overwrite=true")
            self.compare()
            shutil.rmtree(self.out)
            shutil.copytree(kept, self.out)
            if load_config(self.out / CONFIG).seed != self.config(self.out).seed:
                return  # it is still the old run's folder, and resume=true says so
        self.run(self.out, "resume=true")
        self.compare()

    def compare(self) -> None:
        found = content(self.out)
        names = sorted(set(found) ^ set(self.expected))
        assert not names, f"missing or too many: {names}"
        other = [name for name, digest in found.items() if digest != self.expected[name]]
        assert not other, f"other content: {other}"


def main(sample: str | None = None) -> int:
    draw, wrong = random.Random(datetime.date.today().toordinal()), 0
    with tempfile.TemporaryDirectory() as base:
        law = Law(Path(base))
        for law.way in ("plain", "overwrite", "resume"):
            events = law.events()
            chosen = range(1, len(events) + 1)
            if sample:
                chosen = draw.sample(chosen, int(sample))
            before = wrong
            for event in chosen:
                try:
                    law.try_event(event)
                except (AssertionError, OutputError) as error:
                    wrong += 1
                    print(f"{law.way}, killed before event {event}, {events[event - 1]}: {error}")
            tried = f"{len(events)} file events, {len(chosen)} tried, {wrong - before} wrong"
            print(f"{law.way}: {tried}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
