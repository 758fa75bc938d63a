"""``esd-splat plan``: predictions for small teachers, and what the command prints."""

import re
from typing import Any

import pytest
import torch

from esd_splat.config import Config, load_config
from esd_splat.plan import cli, main, prediction
from esd_splat.plan.needs import GB, Prediction
from esd_splat.plan.options import candidates
from esd_splat.plan.prediction import late_step, predict
from esd_splat.plan.tracker import Tracker
from esd_splat.teacher.random_weights import build_parts
from esd_splat.teacher.stable_diffusion import EMBEDDED_FOLDER

TINY = ("prompt=a red owl", "densify=none", "init.count=10", "cameras.size=16")


def _tiny(*more: str, batch: int = 8) -> Config:
    return load_config("esd_sd", [*TINY, f"batch={batch}", *more])


def _of(peak: float, **more: Any) -> Prediction:
    sizes = dict.fromkeys(("weights", "on_cpu", "lora", "scene", "flops", "gaussians"), 0)
    return Prediction(**{**sizes, "peak": round(peak * GB), "phase": "", "joint": False} | more)


@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_it_is_what_a_step_with_values_holds(checkpointing: str) -> None:
    """The same step on the CPU. It differs by what only one of the two keeps for attention."""
    config = _tiny(
        *("precision=32", "loss=csd", "memory.offload=false", "memory.trace=false"),
        f"memory.checkpointing={checkpointing}",
    )
    predicted = predict(config, "tiny-sd")
    cpu, tracker = torch.device("cpu"), Tracker("cpu")
    with tracker:
        family, parts = build_parts("tiny-sd")
        teacher = family.build(parts, cpu, torch.float32, config.memory)
        held = tracker.live
        late_step(config, teacher, tracker)
    assert predicted.weights == pytest.approx(held, rel=0.05)  # with the tables of the scheduler
    assert predicted.peak - predicted.weights == pytest.approx(tracker.peak - held, rel=0.02)


def test_the_embedded_teacher() -> None:
    predicted = predict(load_config("esd", ["prompt=a red owl"]))
    files = sum(file.stat().st_size for file in EMBEDDED_FOLDER.rglob("*.safetensors"))
    assert predicted.weights == pytest.approx(2 * files, rel=0.05)  # float16 in the files
    assert predicted.activations > 0
    assert predicted.lora > 0
    assert predicted.gaussians == 20_000
    assert predicted.phase


def test_options_take_less_memory_and_cost_what_they_should() -> None:
    plain = predict(_tiny("loss.marginal=lora"), "tiny-sd")
    views = predict(_tiny("loss.marginal=lora", "memory.views_at_once=2"), "tiny-sd")
    saved = predict(_tiny("loss.marginal=lora", "memory.checkpointing=true"), "tiny-sd")
    host = predict(_tiny("loss.marginal=lora", "memory.offload=false"), "tiny-sd")
    assert views.activations < 0.8 * plain.activations
    assert views.flops == plain.flops
    assert saved.activations < plain.activations
    assert saved.flops > plain.flops
    assert host.peak - plain.peak == host.weights - plain.weights == plain.on_cpu > host.on_cpu == 0


@pytest.mark.parametrize("family", ["tiny-sdxl", "tiny-sd3", "tiny-views", "tiny-mvdream"])
def test_every_family_can_be_planned(family: str) -> None:
    ring = family == "tiny-mvdream"
    config = _tiny(f"cameras.ring={ring}", batch=4 if ring else 2)
    predicted = predict(config, family)
    assert predicted.flops > 0
    assert predicted.joint == (family in ("tiny-views", "tiny-mvdream"))


@pytest.mark.slow
def test_stable_diffusion_at_its_real_size() -> None:
    """Within 3 % of the same step on fake CUDA tensors, whose LoRA made both predictions."""
    keys = "prompt=a red owl", "loss.marginal=lora", "lora.precision=network", "batch=1"
    predicted = predict(load_config("esd_sd", keys))
    assert predicted.peak / GB == pytest.approx(3.56, rel=0.03)
    assert predicted.flops / 1e12 == pytest.approx(7.29, rel=0.03)


@pytest.mark.parametrize(
    ("text", "size"),
    [("12GB", 12), ("24 GiB", 24), ("80g", 80), ("7.5gb", 7.5), ("1 G", 1)],
)
def test_sizes(text: str, size: float) -> None:
    assert cli.gpu_bytes(text) == size * GB


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("12", "did you mean 12GB?"),
        ("A100", "give the memory of the GPU, such as 12GB, 24GiB or 80g"),
        ("0GB", "give the memory of the GPU, such as 12GB, 24GiB or 80g"),
        ("-8GB", "give the memory of the GPU, such as 12GB, 24GiB or 80g"),
        ("12288MB", "give the memory of the GPU, such as 12GB, 24GiB or 80g"),
        ("12288000", "give the memory of the GPU, such as 12GB, 24GiB or 80g"),
        ("", "give the memory of the GPU, such as 12GB, 24GiB or 80g"),
        ("nan GB", "give the memory of the GPU, such as 12GB, 24GiB or 80g"),
    ],
)
def test_a_size_that_means_nothing_is_one_line(
    text: str, way_out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--gpu={text}"]) == 2
    line = f"esd_splat: --gpu: {text!r} is not a size in gigabytes; {way_out}\n"
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--tflops=fast"], "--tflops: 'fast' is not a rate; give what the data sheet"),
        (["--tflops=-1"], "--tflops: '-1' is not a rate; give what the data sheet"),
        (["--family=sd-xl"], "--family: 'sd-xl' is unknown; did you mean sdxl?"),
        (["--family=flux"], "--family: 'flux' is unknown; choose from sd15, sd21, sd21-base"),
        (
            ["teacher.model=someone/something"],
            "teacher.model: the shapes of 'someone/something' are not known without a download; "
            "give the nearest of --family sd15, ",
        ),
    ],
)
def test_other_bad_requests(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith(f"esd_splat: {line}")
    assert errors.count("\n") == 1


def test_a_prediction_is_told_with_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = _of(10, weights=4 * GB, lora=GB, flops=int(62.4e12), phase="encode", gaussians=7)
    monkeypatch.setattr(prediction, "predict", lambda config, family: given)
    assert main(["--config", "sds", "--tflops", "312"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  weights +4\.00 GB", text, re.MULTILINE)
    assert re.search(r"^  activations +5\.00 GB", text, re.MULTILINE)
    assert re.search(r"^  peak +10\.00 GB  during: encode$", text, re.MULTILINE)
    assert re.search(r"^  a step +62\.40 TFLOP$", text, re.MULTILINE)
    assert "11.5 to 13.0 GB in all" in text
    assert "takes 0.2 s. This is a lower bound:" in text


def test_the_cheapest_settings_come_first() -> None:
    keys = {"prompt": "x", "batch": "4", "memory.offload": "false", "precision": "32"}
    config = load_config("esd_sd", [f"{key}={value}" for key, value in keys.items()])
    found = list(candidates(config))
    offload, checkpointing = "memory.offload=true", "memory.checkpointing=true"
    views = [f"memory.views_at_once={n}" for n in (2, 1)]
    assert [typed for typed, _ in found] == [
        offload,
        *(f"{offload} {each}" for each in views),
        f"{offload} {checkpointing}",
        *(f"{offload} {checkpointing} {each}" for each in views),
        f"{offload} {checkpointing} precision=bf16-mixed {views[1]}",
    ]
    for typed, changed in found:
        again = keys | dict(each.split("=") for each in typed.split())
        assert load_config("esd_sd", [f"{k}={v}" for k, v in again.items()]) == changed
    assert all("views" not in typed for typed, _ in candidates(config, joint=True))


def test_it_stops_at_the_first_that_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(config: Config, family: str | None) -> Prediction:
        return _of(10 if config.memory.views_at_once is None else 8)

    monkeypatch.setattr(prediction, "predict", fake)
    assert main(["--config", "esd_sd", "batch=4", "--gpu", "12GB"]) == 0
    rows = capsys.readouterr().out.partition("first:\n")[2].splitlines()[1:]
    assert [re.split(r"  +", row)[-2:] for row in rows] == [
        ["may fit", "as it is"],
        ["fits", "memory.views_at_once=2"],
    ]
