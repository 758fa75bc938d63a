"""Files of .ply for tests: written column by column, and read back."""

from pathlib import Path

import numpy as np
import plyfile
import torch
from torch import Tensor

from esd_splat.scene.gaussians import Gaussians


def any_scene(n: int = 5, k: int = 3, seed: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    shapes = [3], [4], [3], [], [1, 3], [k, 3]
    return Gaussians(*(torch.randn(n, *shape, generator=g) for shape in shapes))


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.view(torch.int32), b.view(torch.int32))


def write_columns(path: Path, columns: dict[str, np.ndarray], **options: object) -> Path:
    """A file as another program writes it: the given columns in their order and types."""
    types = [(name, value.dtype) for name, value in columns.items()]
    rows = np.array(list(zip(*columns.values(), strict=True)), dtype=types)
    element = plyfile.PlyElement.describe(rows, "vertex")
    plyfile.PlyData([element], **options).write(str(path))  # pyright: ignore[reportArgumentType]
    return path


def read_columns(path: Path) -> dict[str, np.ndarray]:
    data = plyfile.PlyData.read(str(path))["vertex"].data
    return {name: np.array(data[name]) for name in data.dtype.names}
