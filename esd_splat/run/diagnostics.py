"""Diagnostics of a run: how well the LoRA has learned the views, and how that affects the loss.

The scene is known, so the distribution of its noised views is known exactly. Given the camera, it
is a mixture over backgrounds; without the camera, it is a mixture over cameras as well. A perfect
LoRA would predict the noise of these mixtures. Diagnostics do not change the scene of a run.
"""

import hashlib
import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.config import Config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.draws import PLAIN_BACKGROUNDS
from esd_splat.distill.losses import Esd
from esd_splat.distill.predictions import Noised
from esd_splat.run.measure import mixture_eps, side_shares, view_information
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.rasterize import rasterize
from esd_splat.teacher.noise import add_noise, alpha_sigma
from esd_splat.types import Latents, Timesteps, wide

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
"""Noise levels, as fractions of T."""
AZIMUTHS = 36
"""The number of azimuths around the scene. With two elevations and eight backgrounds, 576 views are
encoded. A view of 64 pixels takes 2 to 5 ms on one core, which in total is less than the passes
through the network take."""
NODES = (0.5 - 0.5 / math.sqrt(3), 0.5 + 0.5 / math.sqrt(3))
"""The two Gauss-Legendre nodes on [0, 1], for elevations and each channel of a random background.
They have the mean and the variance of the uniform numbers that a run draws."""
DRAWN = 32
"""The number of views for which noise is predicted. Every level uses the same views and noise. Four
passes for each view at six levels take about ten seconds with the embedded teacher on one core."""
CHUNK = 8
"""The number of views in one pass, so that the views of a large teacher fit on a GPU."""

Grid = Float[Tensor, "cameras backgrounds c hl wl"]
"""Clean latents from each camera, over each background."""


@torch.no_grad()
def diagnose(run: Distillation, config: Config) -> list[dict[str, float]]:
    """Compare the LoRA, the teacher and the loss with the exact distribution of the run's views.

    The result depends only on the state of the run and ``config``, and the state does not change:
    random numbers come from a separate generator that is seeded with seed and step. Differences
    are mean squares of noise predictions, per latent value. The exact prediction given the camera
    knows what the LoRA is given, which does not include the background. "Exact" refers to a grid
    of views 10 degrees apart, at the middle of the ranges of distance and field of view. At low
    noise, a finer grid would blur the predictions a little.

    Returns:
        One row for each of ``LEVELS``. Columns that do not apply to the run are left out:

        - ``step``: the steps done. ``t``: the noise level as a fraction of T.
        - ``camera_error``, ``null_error``: the difference between the LoRA with its camera and the
          exact prediction given the camera, and between the LoRA with its camera hidden and the
          exact prediction for all views together.
        - ``camera_error_shuffled``: like ``camera_error``, but the LoRA is given the camera of
          another view. It is larger if the LoRA knows its camera.
        - ``camera_error_teacher``, ``null_error_teacher``: the same for the teacher at guidance
          scale 1 without view words, which is what an untrained LoRA predicts.
        - ``pool_error``: the difference between the ``Pool`` and the exact prediction for all
          views together. In a run that pools no views, it is the pool of about as many views of the
          present scene, for comparison with ``null_error``.
        - ``gap_exact``: the difference between the two exact predictions. It is zero where
          every noised view is close to the views of its own camera only. An exact entropy term
          is then zero as well.
        - ``gap``, ``gap_cosine``: the difference between the two predictions in the entropy term
          of ``Esd``, and the cosine between it and the exact difference. If the loss uses no
          prediction that knows the camera, the exact one is used instead.
        - ``camera_weight``: the entropy weight that moving against the prediction that knows the
          camera acts with, see ``_effective_weight``: 0 if it knows its camera as well as can be, 1
          if it ignores it. Only where ``gap_exact`` is not zero.
        - ``effective_weight``: that of the whole direction, ``w + (1 - w) camera_weight`` with the
          entropy weight ``w`` of ``Esd``, which is 0 for VSD.
        - ``entropy_share``: the root mean square of w (camera - marginal), divided by its sum with
          that of teacher - camera. ``entropy_share_exact``: the same with both exact predictions.
        - ``view_information``: how much a noised view tells about its camera, in nats, at most
          log(cameras).
        - ``teacher_front``, ``teacher_side``, ``teacher_back``: the shares of the sides that the
          teacher sees in the noised views, at guidance scale 1 without view words. Only for
          figurines.
    """
    cameras, grid = _look_around(run, config)
    exact = wide(grid)  # at low noise the exponents are differences of large numbers
    generator = torch.Generator().manual_seed(_seed(config.seed, run.done))
    backgrounds = grid.shape[1]
    picks = torch.randperm(len(cameras) * backgrounds, generator=generator)[:DRAWN]
    noise = torch.randn((DRAWN, *grid.shape[2:]), generator=generator).to(run.device)
    own = picks // backgrounds
    seen = cameras[own]
    clean = grid.flatten(0, 1)[picks.to(run.device)]
    T = len(run.teacher.alphas_cumprod)
    rows = []
    for level in LEVELS:
        t = torch.full((DRAWN,), min(round(level * T), T - 1), device=run.device)
        found = _at(run, config, exact, own, clean, noise, t, seen.to(run.device))
        rows.append({"step": float(run.done), "t": level, **found})
    return rows


def _look_around(run: Distillation, config: Config) -> tuple[Cameras, Grid]:
    """Return cameras around the scene and the latents of what they see.

    Distance and field of view are at the middle of their ranges.
    """
    orbit, asked = config.cameras, config.background
    low, high = orbit.elevation
    elevations = dict.fromkeys(low + (high - low) * node for node in NODES)
    turns = [360 * index / AZIMUTHS for index in range(AZIMUTHS)]
    places = torch.tensor(list(itertools.product(turns, elevations)), dtype=torch.float64)
    cameras = orbit.at(places[:, 0], places[:, 1])
    colours = list(itertools.product(NODES, repeat=3))
    if asked != "random":
        colours = [(PLAIN_BACKGROUNDS[asked],) * 3]
    behind = torch.tensor(colours, device=run.device)[:, :, None, None]
    black, latents = torch.zeros(1, 3, device=run.device), []
    for index in torch.arange(len(cameras)).split(1):
        render = rasterize(run.scene, cameras[index].to(run.home), black, run.backend)
        over = render.images + (1 - render.alphas)[:, None] * behind
        latents.append(run.encode(over, (run.done - 1) / config.steps))
    return cameras, torch.stack(latents)


def _at(
    run: Distillation,
    config: Config,
    grid: Grid,
    own: Tensor,
    clean: Latents,
    noise: Latents,
    t: Timesteps,
    cameras: Cameras,
) -> dict[str, float]:
    """Return the columns of a noise level. ``own`` holds the row in ``grid`` of each ``clean``."""
    known, loss = run.teacher.alphas_cumprod, config.loss
    noisy = add_noise(clean, noise, known, t)
    found = _predictions(run, loss.needs, noisy, noise, t, cameras)
    alpha, sigma = (scale.item() for scale in alpha_sigma(known, t[:1]))
    exact = wide(noisy)
    null = mixture_eps(exact, grid.flatten(0, 1), alpha, sigma)
    mine = zip(exact.split(1), grid[own.to(grid.device)], strict=True)
    camera = torch.cat([mixture_eps(view, views, alpha, sigma) for view, views in mine])

    row: dict[str, float] = {}
    if run.lora is not None:
        row["camera_error"] = _off(found["lora"], camera)
        row["camera_error_shuffled"] = _off(found["shuffled"], camera)
        row["null_error"] = _off(found["lora_null"], null)
    row["camera_error_teacher"] = _off(found["plain"], camera)
    row["null_error_teacher"] = _off(found["plain"], null)
    pooled = found.get("pooled")
    if pooled is None and run.lora is not None:
        every = grid.flatten(0, 1)
        pooled = config.pool.eps(every[:: max(1, len(every) // config.pool.views)], noisy, known, t)
    if pooled is not None:
        row["pool_error"] = _off(wide(pooled), null)
    row["gap_exact"] = _off(camera, null)
    known_by, w = (loss.parts[0], loss.entropy_weight) if isinstance(loss, Esd) else ("lora", 0.0)
    if row["gap_exact"] and known_by in found:
        free = found["lora_null"] if known_by == "lora" else null
        row["camera_weight"] = _effective_weight(found[known_by], free, camera - null)
    if row["gap_exact"] and (w == 1 or "camera_weight" in row):
        row["effective_weight"] = w + (1 - w) * row.get("camera_weight", 1.0)
    if isinstance(loss, Esd) and loss.parts[1] in found:
        used = found.get(loss.parts[0], camera), found[loss.parts[1]]
        row["gap"] = _off(*used)
        row["gap_cosine"] = _cosine(used[0] - used[1], camera - null)
        row["entropy_share"] = _entropy_share(loss.entropy_weight, found["teacher"], *used)
        row["entropy_share_exact"] = _entropy_share(
            loss.entropy_weight, found["teacher"], camera, null
        )
    row["view_information"] = view_information(exact, grid, alpha, sigma)
    plain = run.teacher.predict_clean(noisy, found["plain"].to(noisy), t)
    return row | _teacher_sides(run, config, plain)


def _predictions(
    run: Distillation,
    needs: frozenset[str],
    noisy: Latents,
    noise: Latents,
    t: Timesteps,
    cameras: Cameras,
) -> dict[str, Latents]:
    """Return what the loss needs, both predictions of the LoRA, and the teacher's as ``plain``."""
    needs = needs - {"inverted"}
    if run.lora is not None:
        needs |= frozenset({"lora", "lora_null"})
    if run.recent is None:
        needs -= {"pooled"}
    parts = []
    for start in range(0, len(noisy), CHUNK):
        part = slice(start, start + CHUNK)
        noised = Noised(noisy[part], noise[part])
        predictions = run.predictor.predict(noised, t[part], cameras[part], needs, run.recent)
        words = run.predictor.words(cameras[part])
        if run.lora is not None:
            # The cameras are in a random order, so the next view's is that of any other view.
            other = torch.arange(len(noisy)).roll(-1)[part]
            wrong = run.predictor.predict(
                noised, t[part], cameras[other], frozenset({"lora"}), run.recent
            )
            predictions["shuffled"] = wrong["lora"]
        parts.append(predictions | {"plain": run.teacher.eps(noisy[part], t[part], words)})
    return {name: wide(torch.cat([part[name] for part in parts])) for name in parts[0]}


def _teacher_sides(run: Distillation, config: Config, clean: Latents) -> dict[str, float]:
    if not config.teacher.vocabulary:
        return {}
    images = torch.cat([run.teacher.decode(part) for part in clean.split(CHUNK)])
    shares = side_shares(images, config.prompt, config.cameras) or {}
    return {f"teacher_{side}": share for side, share in shares.items()}


def _effective_weight(found: Latents, free: Latents, gap: Latents) -> float:
    """The entropy weight that moving against ``found`` acts with.

    Moving against the exact prediction given the camera is SDS, which has no entropy term. Moving
    against the exact one for all views has an entropy term of weight 1. ``gap`` is the difference
    of the two, and the weight is the component of ``found`` along it that is missing::

        1 - E <found - free, gap> / E |gap|^2

    ``free`` may be any prediction that ignores the camera, as E <free, gap> is the same for all of
    them: given the noisy latents, the mean of ``gap`` is zero. So anything that ignores the camera
    has a weight of 1, however wrong it is. The nearer ``free`` is to ``found``, the smaller is the
    error of the estimate.
    """
    return 1 - (((found - free) * gap).mean() / gap.square().mean()).item()


def _entropy_share(weight: float, teacher: Latents, camera: Latents, marginal: Latents) -> float:
    """The share of the entropy term in the direction of ``Esd``, or 0 if both terms are zero."""
    entropy = weight * math.sqrt(_off(camera, marginal))
    whole = entropy + math.sqrt(_off(teacher, camera))
    return entropy / whole if whole else 0.0


def _off(a: Latents, b: Latents) -> float:
    return (a - b).square().mean().item()


def _cosine(a: Latents, b: Latents) -> float:
    """The cosine similarity over all values, or 0 if all values of ``a`` or ``b`` are zero."""
    return torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


def _seed(seed: int, step: int) -> int:
    """Hash ``seed`` and ``step`` to 32 bits, as torch's CPU generator ignores any further bits."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step}".encode()).digest()[:4], "big")
