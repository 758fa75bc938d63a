"""``esd-splat plan``: prints what a run would take on a GPU, and what makes it fit there."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from esd_splat import command, config_files
from esd_splat.errors import ConfigError, UsageError
from esd_splat.plan.needs import FITS, GB, Prediction

if TYPE_CHECKING:
    from esd_splat.config import Config

DESCRIPTION = """\
Predicts the peak memory and the arithmetic of a step on a GPU. It runs the real step of the config
on tensors that have shapes and no data, so it needs no GPU, no weights and no network."""
LEFT_OUT = """\
Left out are workspaces of cuDNN and cuBLAS and the fragmentation of memory, 10 to 25 % more, and
0.5 GB for CUDA itself: {low:.1f} to {high:.1f} GB in all. 1 GB is 2^30 bytes."""
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*g(?:b|ib)?", re.IGNORECASE)
LARGEST = 10_000
"""In GB. A larger size is probably a mistake, such as megabytes."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, see ``command.run``."""
    return command.run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> None:
    arguments, overrides = _parser().parse_known_args(argv)
    size = None if arguments.gpu is None else gpu_bytes(arguments.gpu)
    rate = None if arguments.tflops is None else _rate(arguments.tflops)
    config = _config(arguments.config, overrides)

    family = _shape(arguments.family)
    from esd_splat.plan.prediction import predict

    prediction = predict(config, family)
    print("\n".join(described(prediction, config, family, rate)), flush=True)
    if size is not None:
        _fit(config, prediction, size, family)


def _parser() -> command.Parser:
    parser = command.Parser(
        prog=command.prog("plan"),
        usage=f"{command.prog('plan')} [--config FILE] [options] [key=value ...]",
        description=DESCRIPTION,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", "-c", metavar="FILE", help="as for fit; default: esd")
    add("--gpu", metavar="SIZE", help="memory of the GPU, such as 12GB: say what makes it fit")
    add(
        "--family",
        metavar="NAME",
        help="plan for sd15, sd21, sd21-base, sdxl or sd3 instead of teacher.model",
    )
    add(
        "--tflops",
        metavar="RATE",
        help="what the GPU computes in a second at best, in TFLOP, from "
        "its data sheet: say how long a step takes at least",
    )
    return parser


def gpu_bytes(text: str) -> int:
    """Return the bytes of a size such as ``12GB``, ``24 GiB`` or ``80g``, in units of 2^30.

    Raises:
        UsageError: it is not a size of memory.
    """
    found = SIZE.fullmatch(text.strip())
    if found and 0 < float(found[1]) <= LARGEST:
        return round(float(found[1]) * GB)
    number = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*", text)
    near = (
        f"did you mean {number[1]}GB?"
        if number and 0 < float(number[1]) <= LARGEST
        else ("give the memory of the GPU, such as 12GB, 24GiB or 80g")
    )
    raise UsageError(f"--gpu: {text!r} is not a size in gigabytes; {near}")


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise UsageError(
            f"--tflops: {text!r} is not a rate; give what the data sheet of the GPU says for the "
            "precision of the run, in TFLOP a second, such as 312"
        )
    return rate


def _config(path: str | None, overrides: Sequence[str]) -> "Config":
    from esd_splat.config import load_config, unused  # with torch: seconds

    if not any(override.split("=")[0].strip() == "prompt" for override in overrides):
        overrides = ["prompt=a red owl", *overrides]  # all prompts take the same memory
    path = path or config_files.DEFAULT
    config = load_config(path, overrides)
    if mistakes := unused(config, overrides):
        raise ConfigError(config_files.source_name(path), mistakes)
    return config


def _shape(name: str | None) -> str | None:
    from esd_splat.teacher.random_weights import SHAPES

    if name is None or name in SHAPES:
        return name
    known = [shape for shape in SHAPES if not shape.startswith("tiny")]
    near = get_close_matches(name, known, n=1)
    way_out = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
    raise UsageError(f"--family: {name!r} is unknown; {way_out}")


def described(
    prediction: Prediction, config: "Config", family: str | None, rate: float | None
) -> list[str]:
    """Return the lines that tell a prediction."""
    low, high = prediction.in_all
    model = family or getattr(config.teacher, "model", type(config.teacher).__name__)
    views = f"{config.batch} view" + "s" * (config.batch > 1)
    rows = {
        "weights": (prediction.weights, "the teacher's networks"),
        "LoRA": (prediction.lora, "with Adam's moments"),
        "scene": (prediction.scene, f"{prediction.gaussians} Gaussians with Adam's moments"),
        "activations": (prediction.activations, "at the peak, with gradients"),
        "peak": (prediction.peak, f"during: {prediction.phase}"),
    }
    if prediction.on_cpu:
        size = f"{prediction.on_cpu / GB:.2f} GB of text encoders stay on the CPU"
        rows["weights"] = prediction.weights, f"the teacher's networks; {size}"
    tera = prediction.flops / 1e12
    lines = [
        f"A prediction for a GPU: {model}, {views} a step, precision {config.precision}",
        *(f"  {name:11}  {size / GB:7.2f} GB  {what}" for name, (size, what) in rows.items()),
        f"  {'a step':11}  {tera:7.2f} TFLOP",
        *LEFT_OUT.format(low=low / GB, high=high / GB).split("\n"),
    ]
    if rate is not None:
        lines += [
            f"At {rate:g} TFLOP a second, the arithmetic of a step takes {tera / rate:.3g} s. This "
            "is a lower bound:",
            "how much longer a step takes is not predicted.",
        ]
    return lines


def _fit(config: "Config", prediction: Prediction, size: int, family: str | None) -> None:
    """Print predictions for settings that take less memory, until one fits into ``size`` bytes."""
    from esd_splat.plan.options import candidates
    from esd_splat.plan.prediction import predict

    print(f"\nOn a GPU of {size / GB:g} GB, the cheapest settings first:")
    print(f"  {'peak':>7}  {'in all':>16}  {'a step':>12}")
    _say("as it is", prediction, size)
    if prediction.verdict(size) == FITS:
        return
    for keys, changed in candidates(config, joint=prediction.joint):
        tried = predict(changed, family)
        _say(keys, tried, size)
        if tried.verdict(size) == FITS:
            return
    print("None of these is sure to fit. A smaller batch or a smaller model needs less.")


def _say(keys: str, prediction: Prediction, size: int) -> None:
    low, high = (part / GB for part in prediction.in_all)
    tera = f"{prediction.flops / 1e12:.2f} TFLOP"
    print(
        f"  {prediction.peak / GB:7.2f}  {f'{low:.1f} to {high:.1f} GB':>16}  {tera:>12}  "
        f"{prediction.verdict(size):7}  {keys}",
        flush=True,
    )
