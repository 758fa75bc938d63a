"""What ``esd-splat plan`` says of real models, and a check of it: ``python -m benchmarks.plan``.

Alone it prints a table of predictions. With ``--blank sd15``, a step of a model of that shape is
made on the CPU, with random weights and our own renderer, and its memory is compared with what is
predicted for it.
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence

import torch

from esd_splat.config import Config, load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.step_config import StepConfig
from esd_splat.plan.needs import GB
from esd_splat.plan.prediction import predict
from esd_splat.plan.tracker import Tracker
from esd_splat.run.trainer import DTYPES
from esd_splat.scene.rasterize import resolve_backend
from esd_splat.teacher.random_weights import SHAPES, build_parts

SIZES = {"sdxl": 1024, "sd3": 1024, "sd21": 768}
"""Side of the images, if it is not 512."""
GAUSSIANS = 4096
"""The initial number in ``esd_sd``, which a single step has too."""


def predictions(families: Sequence[str], batches: Sequence[int], overrides: Sequence[str]) -> None:
    """Print a row for each family and number of views."""
    print("| model | batch | weights | activations | peak GB | peak during | TFLOP a step | s |")
    print("|---" * 8 + "|")
    for family in families:
        for batch in batches:
            size = f"cameras.size={SIZES.get(family, 512)}"
            config = _config(size, f"batch={batch}", *overrides)
            start = time.process_time()
            found = predict(config, family)
            seconds = time.process_time() - start
            sizes = found.weights, found.activations, found.peak
            cells = [family, str(batch), *(f"{each / GB:.2f}" for each in sizes), found.phase]
            cells += [f"{found.flops / 1e12:.1f}", f"{seconds:.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


def check(config: Config, family: str) -> None:
    """Print the memory of a step on the CPU beside what is predicted for it."""
    predicted = predict(config, family)
    print("| memory of one step | GB |\n|---|---|")
    print(f"| predicted for the device | {predicted.peak / GB:.2f} |")
    whole = predicted.peak + predicted.on_cpu
    print(f"| predicted with the text encoders | {whole / GB:.2f} |", flush=True)
    start, tracker = time.perf_counter(), Tracker("cpu")
    with tracker:
        kind, parts = build_parts(family)
        parts = {name: part for name, part in parts.items() if part is not None}
        cpu = torch.device("cpu")
        teacher = kind.build(parts, cpu, DTYPES[config.precision], config.memory)
        run = Distillation(StepConfig.of(config), teacher, resolve_backend("auto", "cpu"))
        tracker.restart()
        run.step()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"| tensors on the CPU, counted | {tracker.peak / GB:.2f} |")
    print(f"| resident in all, with Python and libraries | {resident / GB:.2f} |")
    print(f"\nThe step on the CPU took {time.perf_counter() - start:.0f} s.")


def _config(*overrides: str) -> Config:
    return load_config("esd_sd", ["prompt=a red owl", *overrides])


def main() -> None:
    """Print the predictions or the check."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("--families", nargs="+", choices=SHAPES, default=["sd15", "sdxl", "sd3"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--blank", choices=SHAPES, help="check this shape on the CPU")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    print(f"`python -m benchmarks.plan {' '.join(sys.argv[1:])}`\n")
    if args.blank:
        count = f"densify.max_count={GAUSSIANS}"
        check(_config(count, *args.overrides), args.blank)
    else:
        predictions(args.families, args.batches, args.overrides)


if __name__ == "__main__":
    main()
