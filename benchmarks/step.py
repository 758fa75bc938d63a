"""What a step costs above the networks' own passes: ``python -m benchmarks.step``.

Every method runs the ordinary loop. The passes that it makes through the networks are recorded and,
between its steps, made again alone: that is the floor, which no code around the networks can go
below. Then each part is timed where it stands, waited for on CUDA, so that its time is its own.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from esd_splat.config import Config, load_config
from esd_splat.distill import distillation
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.lora import AttachedLora
from esd_splat.distill.losses import LOSSES
from esd_splat.distill.step_config import StepConfig
from esd_splat.run.trainer import DTYPES
from esd_splat.scene.rasterize import resolve_backend
from esd_splat.teacher.random_weights import SHAPES, save_blank

WARM_UP = 5
METHODS = {
    **{name: (name,) for name in ("sds", "vsd", "esd_paper", "esd_pool", "esd")},
    **{
        name: ("sds", f"loss={name}")
        for name in sorted(LOSSES)
        if name not in ("sds", "vsd", "esd")
    },
    "sds, guidance 5": ("sds", "teacher.guidance_scale=5"),
    "sds, Perp-Neg": ("sds", "teacher.guidance_scale=3", "teacher.views.perp_neg.enabled=true"),
    "esd_sd": ("esd_sd",),
}
"""By name: a shipped config, and what differs from it. The last is for networks of real size."""


@dataclass
class Passes:
    """The passes of one step through the networks, to be made again without what is around them."""

    run: Distillation
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    """For each pass of the predictor: what the LoRA is told, if it is awake, whether the network
    computes in float32 by itself, and the inputs."""
    trained: list[tuple[Any, ...]] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """While open, passes are noted; those of the step before are forgotten."""
        for record in (self.asked, self.trained, self.images):
            record.clear()
        teacher: Any = self.run.teacher
        lora = self.run.lora
        output, encode = teacher.output, teacher.encode
        awake: list[Any] = []

        def noted_output(*inputs: Tensor) -> Tensor:
            record = self.trained if torch.is_grad_enabled() else self.asked
            wide = teacher._float32 is not None and teacher._float32._on
            record.append((awake[-1] if awake else None, wide, inputs))
            return output(*inputs)

        def noted_encode(images: Tensor) -> Tensor:
            self.images.append(images.detach())
            return encode(images)

        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(teacher, "output", noted_output))
            stack.enter_context(mock.patch.object(teacher, "encode", noted_encode))
            if lora is not None:
                wake = lora.adapters.awake

                @contextmanager
                def noted_awake(*told: Any, **asleep: Any) -> Iterator[None]:
                    awake.append((told, asleep))
                    with wake(*told, **asleep):
                        yield
                    awake.pop()

                stack.enter_context(mock.patch.object(lora.adapters, "awake", noted_awake))
            yield

    def again(self) -> None:
        """All of them: forward, and backward where the step needs it."""
        for images in self.images:
            images = images.clone().requires_grad_()
            self.run.teacher.encode(images).sum().backward()
        with torch.no_grad():
            for passed in self.asked:
                self._output(*passed)
        for passed in self.trained:
            self._output(*passed, backward=True)

    def _output(
        self, told: Any, wide: bool, inputs: tuple[Tensor, ...], backward: bool = False
    ) -> None:
        with ExitStack() as stack:
            if wide:
                stack.enter_context(self.run.teacher.in_float32())
            if told is not None and self.run.lora is not None:
                stack.enter_context(self.run.lora.adapters.awake(*told[0], **told[1]))
            output = self.run.teacher.output(*inputs)
            if backward:
                output.square().mean().backward()
        if backward and self.run.lora is not None:
            self.run.lora.optimizer.zero_grad()


@contextmanager
def timed(owner: Any, attribute: str, spent: list[float], settle: Callable[[], None]) -> Iterator:
    """While open, seconds in each call of ``owner.attribute`` are noted."""
    function = getattr(owner, attribute)

    def call(*args: Any, **kwargs: Any) -> Any:
        seconds, result = clock(lambda: function(*args, **kwargs), settle)
        spent.append(seconds)
        return result

    with mock.patch.object(owner, attribute, call):
        yield


@contextmanager
def waking(lora: AttachedLora, spent: list[float]) -> Iterator[None]:
    """While open, seconds are noted that activating the LoRA takes, and putting it to sleep."""
    awake = lora.adapters.awake

    @contextmanager
    def watched(*told: Any, **asleep: Any) -> Iterator[None]:
        context, start = awake(*told, **asleep), time.perf_counter()
        with context:
            woken = time.perf_counter()
            yield
            asleep_at = time.perf_counter()
        spent.append(woken - start + time.perf_counter() - asleep_at)

    with mock.patch.object(lora.adapters, "awake", watched):
        yield


def clock(work: Callable[[], Any], settle: Callable[[], None]) -> tuple[float, Any]:
    """Seconds that ``work`` takes, and what it returns."""
    settle()
    start = time.perf_counter()
    result = work()
    settle()
    return time.perf_counter() - start, result


def measure(config: Config, device: torch.device, steps: int) -> dict[str, float]:
    """Milliseconds per step: of the whole, of its networks alone, and in each of its parts."""
    on_cuda = device.type == "cuda"
    settle = torch.cuda.synchronize if on_cuda else lambda: None
    teacher = config.teacher.load(device, DTYPES[config.precision], config.memory)
    run = Distillation(StepConfig.of(config), teacher, resolve_backend(config.backend, device.type))
    passes, whole, alone = Passes(run), [], []
    for _ in range(WARM_UP):
        run.step()
    memory = {}
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
        run.step()
        memory["GB"] = torch.cuda.max_memory_allocated() / 2**30
    for _ in range(steps):
        with passes.recorded():
            whole.append(clock(run.step, settle)[0])
        alone.append(clock(passes.again, settle)[0])
    found = {"whole": sum(whole), "networks": sum(alone)}
    places = {
        "asking": (run.predictor, "_ask"),
        "training": (run.lora, "train"),
        "encoding": (teacher, "encode"),
        "drawing": (distillation, "rasterize"),
    }
    spent: dict[str, list[float]] = {name: [] for name in places}
    with ExitStack() as stack:
        for name, (owner, attribute) in places.items():
            if owner is not None:
                stack.enter_context(timed(owner, attribute, spent[name], settle))
        woken: list[float] = []
        if run.lora is not None:
            stack.enter_context(waking(run.lora, woken))
        watched = clock(lambda: [run.step() for _ in range(steps)], settle)[0]
    found |= {name: sum(seconds) for name, seconds in spent.items()}
    found["the rest"] = watched - sum(found[name] for name in places)
    found["waking"] = sum(woken)  # within asking and training, and within the networks' passes
    return {name: 1e3 * seconds / steps for name, seconds in found.items()} | memory


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS)[:-1])
    parser.add_argument("--blank", choices=SHAPES, help="random weights instead of the figurines'")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    overrides = ["prompt=a red owl", *args.overrides]
    device = torch.device(args.device)
    with tempfile.TemporaryDirectory() as folder:
        if args.blank:
            overrides.append(f"teacher.model={save_blank(Path(folder) / args.blank, args.blank)}")
        print(f"{args.steps} steps on {args.device}, {args.threads} threads, ms per step\n")
        header: list[str] = []
        for name in args.methods:
            config, *different = METHODS[name]
            found = measure(load_config(config, [*different, *overrides]), device, args.steps)
            if not header:
                header = ["method", *found, "whole / networks"]
                print("|", " | ".join(header), "|")
                print("|---" * len(header) + "|")
            cells = [f"{value:.2f}" if value < 1 else f"{value:.1f}" for value in found.values()]
            ratio = f"{found['whole'] / found['networks']:.3f}"
            print("|", " | ".join([name, *cells, ratio]), "|", flush=True)


if __name__ == "__main__":
    main()
