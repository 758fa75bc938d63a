"""A step of ``configs/esd_sd.yaml`` with networks of real size."""

import gc
from unittest import mock

from esd_splat.config import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.step_config import StepConfig
from esd_splat.run.trainer import DTYPES
from esd_splat.teacher import latent
from esd_splat.teacher.random_weights import build_parts
from tests.fakegpu.cases import Plant, Result, rounded
from tests.fakegpu.device import CUDA, fake_gpu
from tests.tiny import IMAGE_SIZE

PIXELS = {
    "tiny-sd": IMAGE_SIZE,
    "sd15": 512,
    "sd21-base": 512,
    "sd21": 768,
    "sdxl": 1024,
    "sd3": 1024,
}
"""Width and height of the pictures of each family, named as in ``random_weights.SHAPES``."""


def step_at_size(shape: str, *more: str, plant: Plant | None = None) -> Result:
    """Make a step with one view, and count what it takes, memory too. See ``cases.step``."""
    keys = ["prompt=a red owl", "backend=gsplat", "batch=1", f"cameras.size={PIXELS[shape]}"]
    config = load_config("esd_sd", [*keys, *more])
    dtype = DTYPES[config.precision]
    family, parts = build_parts(shape, t5=True, device="meta")
    rounded(parts, dtype)
    with fake_gpu() as counts:
        with mock.patch.object(latent, "_check_finite"):
            teacher = family.build(parts, CUDA, dtype, config.memory)
        run = Distillation(StepConfig.of(config), teacher, config.backend)
        if plant is not None:
            plant(run)
        gc.collect()  # what building left behind
        counts.start()
        run.step()
    return Result(run, config, counts)
