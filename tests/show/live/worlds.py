"""What the tests of the live view share: a small run, and clients that are no browsers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch
import viser
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.typing import Subprotocol

from esd_splat.config import Config, load_config
from esd_splat.distill.distillation import Distillation
from esd_splat.distill.step_config import StepConfig
from esd_splat.scene.rasterize import resolve_backend
from tests.tiny import IMAGE_SIZE

CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (0.0, 0.0, 3.0),
    "fov": 0.7,
    "near": 0.01,
    "far": 100.0,
    "image_height": 80,
    "image_width": 80,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 1.0, 0.0),
}
"""What a browser says first; from then on it counts as one."""


def keys(model: Path, out: Path, *more: str) -> list[str]:
    """Of a small run that is watched, as overrides."""
    given = {
        "prompt": "a red owl",
        "teacher.model": str(model),
        "out": str(out),
        "view": "true",
        "view_port": "0",
        "steps": "20",
        "batch": "2",
        "cameras.size": str(IMAGE_SIZE),
        "init.count": "30",
        "densify": "{name: clone_split, every: 6, min_count: 5}",
        "loss": "{name: esd, entropy_weight: 0.5}",
        "lora.rank": "2",
        "export.frames": "0",
        "export.size": str(IMAGE_SIZE),
        "measure.views": "8",
    }
    given |= dict(override.split("=", 1) for override in more)
    return [f"{key}={value}" for key, value in given.items()]


def config(model: Path, out: Path, *more: str) -> Config:
    return load_config(None, keys(model, out, *more))


def begun(config: Config, steps: int = 1) -> tuple[Config, Distillation]:
    """A run that has gone some steps, and its settings."""
    teacher = config.teacher.load(torch.device("cpu"), torch.float32)
    run = Distillation(StepConfig.of(config), teacher, resolve_backend("auto", "cpu"))
    for _ in range(steps):
        run.step()
    return config, run


@contextmanager
def client(port: int) -> Iterator[Connection]:
    """Somebody who looks at the page, but reads nothing unless the test does."""
    protocol = Subprotocol(f"viser-v{viser.__version__}")
    with connect(
        f"ws://127.0.0.1:{port}", subprotocols=[protocol], max_size=None, close_timeout=0.1
    ) as connection:
        connection.send(msgspec.msgpack.encode(CAMERA))
        yield connection


def eventually(holds: Callable[[], object]) -> None:
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
