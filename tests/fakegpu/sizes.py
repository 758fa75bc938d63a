"""A step of ``configs/esd_sd.yaml`` with networks of real size."""

import gc
from unittest import mock

from esd_splat.config import load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.step_config import StepConfig
from esd_splat.run.trainer import DTYPES
from esd_splat.teacher import latent
from tests.fakegpu.cases import Result, blank, rounded
from tests.fakegpu.device import CUDA, fake_gpu

PIXELS = {"sd15": 512, "sd21-base": 512, "sd21": 768, "sdxl": 1024, "sd3": 1024}
"""Width and height of the pictures of each family, named as in ``random_weights.SHAPES``."""


def step_at_size(shape: str, *more: str, steps: int = 1) -> Result:
    """Make steps with one view each, and count in the last one, memory too."""
    keys = ["prompt=a red owl", "backend=gsplat", "batch=1", f"cameras.size={PIXELS[shape]}"]
    config = load_config("esd_sd", [*keys, *more])
    dtype = DTYPES[config.precision]
    family, parts = blank(shape, device="meta")
    rounded(parts, dtype)
    with fake_gpu() as counts:
        with mock.patch.object(latent, "_check_finite"):
            teacher = family.build(parts, CUDA, dtype, config.memory)
        run = Distillation(StepConfig.of(config), teacher, config.backend)
        for _ in range(steps):
            gc.collect()  # of what is left of building
            counts.start()
            run.step()
    return Result(run, config, counts)
