"""What the live view shows: the views of a step, the networks' predictions, and entropies."""

import math
from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.config import Config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.microbatch import Seen
from esd_splat.run.measure import pose_entropies, view_information
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.teacher.noise import add_noise, alpha_sigma
from esd_splat.types import Images, wide

VIEWS = 2
"""Number of views of a step that are shown. Decoding takes longer than everything else shown."""
PIXELS = 128
"""Width and height of the pictures."""
NAMES = {
    "teacher": "teacher",
    "teacher_cond": "teacher, unguided",
    "lora": "LoRA",
    "lora_null": "LoRA, camera dropped",
    "pooled": "pool",
}
"""Label of each prediction that is shown. The drawn noise itself is left out, because the clean
picture that it implies is the view."""
LEVEL = 0.9
"""Noise level, as a fraction of T, at which the information in a view is measured. At lower levels
each view is soon distinguishable from all others, however alike they look. At higher levels none
is."""
DRAWS = 4
"""Number of noise draws for each view."""


@torch.no_grad()
def pictures(run: Distillation, seen: Seen) -> dict[str, Images]:
    """Return some views of a step, and the clean pictures that each prediction implies for them.

    Returns:
        Pictures in [0, 1] on the CPU, by name; ``views`` come first. For a noise prediction, they
        are the decoded clean latents that it implies in one step.
    """
    some = slice(VIEWS)
    found = {"views": _shown(seen.images[some])}
    for name, label in NAMES.items():
        if name in seen.predictions:
            clean = run.teacher.predict_clean(
                seen.noisy[some], seen.predictions[name][some], seen.t[some]
            )
            # Decode one at a time: a large decoder must not take the memory that the run needs.
            decoded = [_shown(run.teacher.decode(one)) for one in clean.split(1)]
            found[label] = torch.cat(decoded)
    return found


def noise_levels(run: Distillation, seen: Seen) -> list[float]:
    """Return the noise levels of the views that ``pictures`` shows, as fractions of T."""
    return (seen.t[:VIEWS] / len(run.teacher.alphas_cumprod)).tolist()


def prepare(config: Config) -> None:
    """Trace the templates that ``entropies`` needs. The measures at the run's end reuse them."""
    if config.teacher.vocabulary:
        pose_entropies(_blank, config.prompt, config.measure, config.cameras)


@torch.no_grad()
def entropies(run: Distillation, scene: Gaussians, config: Config) -> dict[str, float]:
    """Measure how much the views of ``scene`` differ, in nats, at most ``log(measure.views)``.

    If the true poses are known, return ``IV`` and ``IQ``, see ``pose_measures``. Otherwise the pose
    that a view shows is unknown, and ``I`` is the information that a noised view holds about its
    camera. This is the term that entropic distillation adds, measured without a classifier. Any
    difference between views raises it.
    """
    device, known = run.device, run.teacher.alphas_cumprod
    measure, orbit = config.measure, config.cameras

    def render(cameras: Cameras, backgrounds: Float[Tensor, "b 3"]) -> Images:
        return run.views(cameras, backgrounds, scene)

    if config.teacher.vocabulary:
        found = pose_entropies(render, config.prompt, measure, orbit)
        if found is not None:
            return {name: found[name] or 0.0 for name in ("IV", "IQ")}
    grey = torch.full((measure.views, 3), 0.5)
    images = render(orbit.turntable(measure.views, measure.elevation), grey)
    latents = torch.cat([run.teacher.encode(one.to(device)) for one in images.split(1)])
    clean = latents.repeat(DRAWS, 1, 1, 1)
    # The noise is the same every time, so that only the views change the result.
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(device)
    t = torch.full((len(clean),), round(LEVEL * len(known)), device=device)
    alpha, sigma = (scale.item() for scale in alpha_sigma(known, t[:1]))
    noisy = wide(add_noise(clean, noise, known, t))
    return {"I": view_information(noisy, wide(latents[:, None]), alpha, sigma)}


def explained(config: Config, names: Collection[str]) -> str:
    """Explain in a few words what the ``entropies`` of these names mean."""
    views = config.measure.views
    if "IV" in names:
        return (
            f"Entropies in nats of the pose that {views} views show. **IV**, of all views "
            f"together: {math.log(views):.2f} if they show every side, 0 if all show the same. "
            "**IQ**, of each view: 0 if it clearly shows one side."
        )
    return (
        f"**I**: information in nats that each of {views} views, noised to t/T = {LEVEL:g}, holds "
        f"about its camera: 0 if all look the same, {math.log(views):.2f} if all differ. Which "
        "side a view shows (IV, IQ) is known for figurines only."
    )


def _blank(cameras: Cameras, backgrounds: Float[Tensor, "b 3"]) -> Images:
    return backgrounds[:, :, None, None].expand(-1, -1, cameras.height, cameras.width)


def _shown(images: Images) -> Float[Tensor, "b 3 p p"]:
    """Return the images as they are shown: on the CPU, in [0, 1], ``PIXELS`` wide and high."""
    return torch.nn.functional.interpolate(images.clamp(0, 1), (PIXELS, PIXELS), mode="area").cpu()
