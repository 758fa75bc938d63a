"""Where the time of a step goes: ``python -m benchmarks.step``.

One run of the ordinary loop on the embedded teacher, its parts timed where they stand. The network
passes cannot be avoided; everything else should be small beside them. On CUDA every part is waited
for, so that its time is its own; the last line is of steps that run as they do otherwise.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch

from esd_splat import distillation
from esd_splat.config import load_config
from esd_splat.distillation import Distillation
from esd_splat.rasterize import resolve_backend

NETWORK = ("one pass for all branches", "particle's training")


class Stopwatch:
    """Wall time spent inside of functions, by name."""

    def __init__(self, settle: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = {}
        self.settle = settle
        """Returns when the device has nothing left to do."""

    @contextmanager
    def inside(self, owner: Any, attribute: str, name: str) -> Iterator[None]:
        """While open, calls of ``owner.attribute`` count for ``name``."""
        function = getattr(owner, attribute)
        self.seconds[name] = 0.0

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.settle()
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.settle()
                self.seconds[name] += time.perf_counter() - start

        with mock.patch.object(owner, attribute, timed):
            yield


def main() -> None:
    """Time the parts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="esd")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    config = load_config(args.config, ["prompt=a red owl", *args.overrides])
    teacher = config.teacher.load(torch.device(args.device), torch.float32)
    run = Distillation(config, teacher, resolve_backend(config.backend, args.device))
    for _ in range(5):
        run.step()
    settle = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    watch = Stopwatch(settle)
    with (
        watch.inside(run.predictor, "_ask", NETWORK[0]),
        watch.inside(distillation, "rasterize", "drawing, forward"),
        watch.inside(teacher, "encode", "encoding, forward"),
        watch.inside(torch.Tensor, "backward", "backward, of scene and particle"),
        watch.inside(run.optimizer, "step", "Adam on the scene"),
    ):
        if run.particle is None:
            total = _time(run, args.steps, settle)
        else:
            with watch.inside(run.particle, "train", NETWORK[1]):
                total = _time(run, args.steps, settle)
    network = sum(watch.seconds.get(name, 0.0) for name in NETWORK)
    how = f"drawn by {run.backend}, {args.threads} threads"
    print(f"{args.steps} steps on {args.device}, {how}, ms per step")
    for name, seconds in (watch.seconds | {"whole step": total}).items():
        print(f"{name:32} {1e3 * seconds / args.steps:8.1f}")
    print(f"whole step over its network passes: {total / network:.3f}")
    if args.device == "cuda":
        alone = 1e3 * _time(run, args.steps, settle) / args.steps
        print(f"whole step, its parts not waited for: {alone:.1f} ms")


def _time(run: Distillation, steps: int, settle: Callable[[], None]) -> float:
    settle()
    start = time.perf_counter()
    for _ in range(steps):
        run.step()
    settle()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
