"""What the live view looks at: the views of a step, what each network makes of them, entropies."""

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
from esd_splat.types import Images

VIEWS = 2
"""Of a step, whose pictures are shown. A decoder takes longer than all else that is shown."""
PIXELS = 128
"""Width and height of the pictures."""
NAMES = {
    "teacher": "teacher",
    "teacher_cond": "teacher, unguided",
    "lora": "LoRA",
    "lora_null": "LoRA, camera dropped",
    "pooled": "pool",
}
"""Predictions that are shown. What the drawn noise implies is the view itself."""
LEVEL = 0.9
"""Noise level, as a fraction of T, of the information in a view. At lower ones each view is soon
told from all others, however alike they look; at higher ones none is."""
DRAWS = 4
"""Noised draws of each view."""


@torch.no_grad()
def pictures(run: Distillation, seen: Seen) -> dict[str, Images]:
    """Some views of a step, and the clean pictures that each prediction implies for them.

    Returns:
        By name, ``views`` first: pictures in [0, 1], on the CPU. Of a noise prediction, the clean
        latents that it implies in one step, decoded.
    """
    some = slice(VIEWS)
    found = {"views": _shown(seen.images[some])}
    for name, label in NAMES.items():
        if name in seen.predictions:
            clean = run.teacher.predict_clean(
                seen.noisy[some], seen.predictions[name][some], seen.t[some]
            )
            # One by one: a large decoder must not take the memory that the run needs.
            decoded = [_shown(run.teacher.decode(one)) for one in clean.split(1)]
            found[label] = torch.cat(decoded)
    return found


def noise_levels(run: Distillation, seen: Seen) -> list[float]:
    """Of the views that ``pictures`` shows, as fractions of T."""
    return (seen.t[:VIEWS] / len(run.teacher.alphas_cumprod)).tolist()


def prepare(config: Config) -> None:
    """Trace the templates that ``entropies`` needs, and the measures at the end of the run too."""
    if config.teacher.vocabulary:
        pose_entropies(_blank, config.prompt, config.measure, config.cameras)


@torch.no_grad()
def entropies(run: Distillation, scene: Gaussians, config: Config) -> dict[str, float]:
    """How much the views of ``scene`` differ, in nats, at most ``log(measure.views)``.

    Where the truth is known, ``IV`` and ``IQ``, see ``pose_measures``. Elsewhere nobody can tell
    which pose a view shows, and ``I`` is what a noised view tells about its camera. That is the
    term which entropic distillation adds, without a classifier; any difference raises it.
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
    # The same noise every time: what changes are the views.
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(device)
    t = torch.full((len(clean),), round(LEVEL * len(known)), device=device)
    alpha, sigma = (scale.double().item() for scale in alpha_sigma(known, t[:1]))
    noisy = add_noise(clean, noise, known, t).double()
    return {"I": view_information(noisy, latents[:, None].double(), alpha, sigma)}


def explained(config: Config, names: Collection[str]) -> str:
    """What ``entropies`` of these names mean, in a few words."""
    views = config.measure.views
    if "IV" in names:
        return (
            f"Of the pose that {views} views show, nats. **IV**, of all together: "
            f"{math.log(views):.2f} if they show every side, 0 if all show the same. "
            "**IQ**, of each: 0 if it plainly shows one side."
        )
    return (
        f"**I**: what each of {views} views, noised to t/T = {LEVEL:g}, tells about its camera, "
        f"nats: 0 if all look the same, {math.log(views):.2f} if none is like another. Which side "
        "a view shows (IV, IQ) can be told for figurines only, whose truth is known."
    )


def _blank(cameras: Cameras, backgrounds: Float[Tensor, "b 3"]) -> Images:
    return backgrounds[:, :, None, None].expand(-1, -1, cameras.height, cameras.width)


def _shown(images: Images) -> Float[Tensor, "b 3 p p"]:
    """As they are shown: on the CPU, in [0, 1], and of ``PIXELS``."""
    return torch.nn.functional.interpolate(images.clamp(0, 1), (PIXELS, PIXELS), mode="area").cpu()
