"""The prediction for a config: its real step, run on tensors that have shapes and no data."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from esd_splat.config import Config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.recent import Recent
from esd_splat.distill.step_config import StepConfig
from esd_splat.plan.drawing import draw
from esd_splat.plan.needs import Prediction
from esd_splat.plan.operators import as_on_gpu
from esd_splat.plan.tracker import Tracker
from esd_splat.run.trainer import DTYPES
from esd_splat.scene.densify.none import NoDensify
from esd_splat.scene.optim import make_adam
from esd_splat.scene.rasterize import RASTERIZERS
from esd_splat.teacher import Teacher
from esd_splat.teacher.outline import outline

BACKEND = "nothing"
PLACEHOLDERS = {"prompt": "a red owl", "negative_prompt": "a blue cat"}
"""Texts that every tokenizer here knows. All texts take the same memory."""


def predict(config: Config, family: str | None = None) -> Prediction:
    """Return what a late step of ``config`` takes, when the scene and the pool have grown.

    Args:
        config: the settings. ``device`` and ``backend`` are taken to be CUDA and gsplat.
        family: a key of ``random_weights.SHAPES``, for a model of that shape in place of
            ``teacher.model``.

    Raises:
        TeacherError: the shapes of the model are not known.
    """
    # A multi-view teacher asks how many views it sees together.
    tracker = Tracker(integer=config.batch)
    with tracker:
        memory = replace(config.memory, offload=False, compile=False)
        model = outline(config.teacher, DTYPES[config.precision], memory, family)
        on_cpu = tracker.size(model.text_weights()) if config.memory.offload else 0
        weights = tracker.live - on_cpu
        run = late_step(config, model.teacher, tracker)
    return Prediction(
        weights=weights,
        on_cpu=on_cpu,
        lora=tracker.size(_tensors_of(run.lora.optimizer)) if run.lora else 0,
        scene=tracker.size(_tensors_of(run.optimizer)),
        peak=tracker.peak - on_cpu,
        phase=tracker.peak_phase or "update the scene",
        flops=tracker.flops,
        gaussians=len(run.scene),
        joint=model.teacher.joint,
    )


def late_step(config: Config, teacher: Teacher, tracker: Tracker) -> Distillation:
    """Make one step near the end of a run, and return the run.

    Args:
        config: the settings. Densification is left out, but the scene has grown by it.
        teacher: the teacher, on the device of ``tracker``.
        tracker: it is open, and has the peak and the FLOPs of the step alone afterwards.
    """
    with as_on_gpu(tracker), _rasterizer(tracker):
        run = Distillation(StepConfig.of(_stripped(config)), teacher, BACKEND)
        _grow(run, config)
        _name_phases(run, tracker)
        tracker.restart()
        run.step()
    return run


def _stripped(config: Config) -> Config:
    """Return ``config`` without what happens between the steps or needs no memory later on."""
    negative = PLACEHOLDERS["negative_prompt"] if config.negative_prompt else ""
    views = replace(config.teacher.views, language_model=None)
    return replace(
        config,
        prompt=PLACEHOLDERS["prompt"],
        negative_prompt=negative,
        teacher=replace(config.teacher, views=views),  # pyright: ignore[reportArgumentType]
        latent_warmup=0.0,
        densify=NoDensify(),
    )


def _grow(run: Distillation, config: Config) -> None:
    """Bring a new ``run`` near its end: as many Gaussians and pooled views as there can be."""
    count = max(len(run.scene), getattr(config.densify, "max_count", 0))
    scene = run.scene.map(lambda value: value.detach().new_zeros(count, *value.shape[1:]))
    run.optimizer = make_adam(scene, config.optim)
    for optimizer in (run.optimizer, run.lora and run.lora.optimizer):
        if optimizer is not None:
            _prime(optimizer)
    run.done = max(1, config.steps - 1)
    if run.predictor.uses_recent:
        views, device = config.pool.views, run.device
        latents = torch.zeros(views, *run.teacher.latent_shape, device=device)
        run.recent = Recent.of(latents, torch.zeros(views, 4, 4, device=device), run.done)


def _prime(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer the moments that it has from its first step on."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def _name_phases(run: Distillation, tracker: Tracker) -> None:
    named = [("encode", run, "encode"), ("predict", run.predictor, "predict")]
    if run.lora is not None:
        named.append(("train the LoRA", run.lora, "train"))
    for name, owner, method in named:
        setattr(owner, method, tracker.phased(name, getattr(owner, method)))


@contextmanager
def _rasterizer(tracker: Tracker) -> Iterator[None]:
    """While open, there is a rasterizer that draws nothing on any device."""
    RASTERIZERS[BACKEND] = tracker.phased("render", draw)
    try:
        yield
    finally:
        del RASTERIZERS[BACKEND]


def _tensors_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return parameters and moments of an optimizer."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states = [value for state in optimizer.state.values() for value in state.values()]
    return [x for x in (*parameters, *states) if isinstance(x, Tensor)]
