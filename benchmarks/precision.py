"""How much of the entropy term survives rounding: ``python -m benchmarks.precision``.

The entropy term of ESD is the LoRA's prediction with the camera minus the one without it: a small
difference of two large predictions. A short run in float32 trains a LoRA; then the same views are
predicted with networks in each precision, and the difference is compared with that of float32.
"""

import argparse

import torch

from esd_splat.config import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.step_config import StepConfig
from esd_splat.run.trainer import DTYPES
from esd_splat.scene.rasterize import resolve_backend
from esd_splat.types import Latents

LEVELS = (100, 300, 600, 900)
"""Timesteps."""
GAPS = {
    "with and without the camera": ("lora", "lora_null"),
    "LoRA and teacher": ("lora", "teacher_cond"),
}
"""Differences of two predictions."""


def gaps(run: Distillation, clean: Latents, level: int) -> dict[str, Latents]:
    """Return each of ``GAPS`` for ``clean`` noised to a timestep."""
    generator = torch.Generator().manual_seed(level)
    cameras = run.config.cameras.sample(len(clean), torch.Generator().manual_seed(0))
    t = torch.full((len(clean),), level)
    noise = run.predictor.draw(len(clean), generator)
    noised = run.predictor.noised(clean, t, cameras, noise)
    needs = {name for pair in GAPS.values() for name in pair}
    found = run.predictor.predict(noised, t, cameras, needs)
    return {name: found[one] - found[other] for name, (one, other) in GAPS.items()}


def main() -> None:
    """Train, measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--steps", type=int, default=120, help="steps in which the LoRA is trained")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    cpu, backend = torch.device("cpu"), resolve_backend("auto", "cpu")

    def start(precision: str, of_lora: str = "network") -> Distillation:
        keys = ["prompt=a red owl", "device=cpu", f"lora.precision={of_lora}"]
        config = load_config("esd_paper", keys)
        teacher = config.teacher.load(cpu, DTYPES[precision], config.memory)
        return Distillation(StepConfig.of(config), teacher, backend)

    run = start("32")
    assert run.lora is not None
    for _ in range(args.steps):
        run.step()
    views = run.views(run.config.cameras.turntable(4), torch.full((4, 3), 0.5))
    with torch.no_grad():
        clean = run.encode(views, 1.0)
    known = {level: gaps(run, clean, level) for level in LEVELS}
    print(
        "| precision | lora.precision | difference of | " + " | ".join(f"t = {t}" for t in LEVELS)
    )
    print("|---" * (3 + len(LEVELS)) + "|")
    for precision in ("bf16-mixed", "16-mixed"):
        for of_lora in ("network", "32"):
            other = start(precision, of_lora)
            assert other.lora is not None
            other.lora.restore(run.lora.state())
            found = {level: gaps(other, clean, level) for level in LEVELS}
            for name in GAPS:
                errors = [
                    (found[level][name] - known[level][name]).norm() / known[level][name].norm()
                    for level in LEVELS
                ]
                cells = " | ".join(f"{100 * error:.1f} %" for error in errors)
                print(f"| {precision} | {of_lora} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
