"""The stand-ins for gsplat's kernels take what those of the installed gsplat take."""

import inspect
import re
from pathlib import Path

import pytest
import torch

from tests.fakegpu import gsplat_kernels
from tests.fakegpu.counts import Counts
from tests.fakegpu.gsplat_kernels import Kernels

NAMES = [name for name in vars(Kernels) if name.endswith(("_fwd", "_bwd")) or "intersect" in name]


@pytest.fixture(scope="module")
def declared() -> dict[str, list[str]]:
    """The names of the parameters of every function that gsplat declares."""
    gsplat = pytest.importorskip("gsplat")
    header = Path(gsplat.__file__).parent / "cuda" / "include" / "Ops.h"
    code = re.sub(r"//[^\n]*", "", header.read_text())
    found = re.findall(r"(\w+)\(([^()]*)\);", code)
    return {name: re.findall(r"(\w+)\s*(?:,|$)", parameters.strip()) for name, parameters in found}


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_gsplats_own(name: str, declared: dict[str, list[str]]) -> None:
    ours = list(inspect.signature(getattr(Kernels, name)).parameters)[1:]
    assert ours == declared[name]


def test_a_wrong_tensor_is_refused() -> None:
    kernels = gsplat_kernels.module(Counts())._C
    on_the_cpu = torch.zeros(4, 3)
    with pytest.raises(AssertionError, match="on CUDA"):
        kernels.spherical_harmonics_fwd(0, on_the_cpu, on_the_cpu[:, None], None)
