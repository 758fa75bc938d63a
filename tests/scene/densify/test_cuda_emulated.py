"""The CUDA kernels of densification, run in threads on the processor, compared with PyTorch.

This does not show that they run on a GPU, but it tests their arithmetic, indices and barriers on
every machine with a C++ compiler.
"""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from esd_splat.scene.densify import Rows
from esd_splat.scene.densify.classify import Limits, classify_torch, observe_torch
from esd_splat.scene.densify.growth import CLONE, DROP, Growth, grow_torch
from esd_splat.scene.densify.mcmc import wander_torch
from tests.scene.densify.scenes import scene_of_rows, with_room

HERE, SOURCES = Path(__file__).parent / "emulated", Path(__file__).parents[3] / "cuda_ext"
LIMITS = [-0.7, -0.3, -0.1, -3.8, 1.5]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    folder = tmp_path_factory.mktemp("emulated")
    code = (SOURCES / "cuda" / "densify.cu").read_text()
    code, launches = re.subn(
        r"(\w+)<<<(.*?)>>>\((.*?)\);", r"launch(\2, [=] { \1(\3); });", code, flags=re.DOTALL
    )
    assert launches == 9, "every launch of every kernel"
    (folder / "densify.cpp").write_text(code + (HERE / "calls.inc").read_text())
    options = ["-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", f"-I{HERE}", f"-I{SOURCES}"]
    out = folder / "densify.so"
    subprocess.run(["g++", *options, "-o", str(out), str(folder / "densify.cpp")], check=True)
    return ctypes.CDLL(str(out))


def _at(x: Tensor) -> ctypes.c_void_p:
    assert x.is_contiguous()
    return ctypes.c_void_p(x.data_ptr())


def _table(tensors: list[Tensor]) -> tuple[ctypes.Array, ctypes.Array]:
    widths = [x[0].numel() for x in tensors]
    pointers = (ctypes.c_void_p * len(tensors))(*(x.data_ptr() for x in tensors))
    return pointers, (ctypes.c_int32 * len(tensors))(*widths)


@pytest.mark.parametrize("count", [1, 255, 256, 700])
@pytest.mark.parametrize("shares", [(1, 1, 1, 1), (5, 1, 1, 0), (0, 5, 1, 1), (1, 9, 1, 1)])
def test_growing(kernels: ctypes.CDLL, count: int, shares: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(count)
    action = torch.multinomial(torch.tensor(shares).double(), count, True, generator=g).byte()
    after = count + int((action >= CLONE).sum()) - int((action == DROP).sum())
    edit = Growth(action, after, seed=2**40 + 7, step=11)
    both = []
    for _ in range(2):
        scene = scene_of_rows(count, sh=8).map(lambda v: with_room(v, max(count, after)))
        both.append(Rows(scene, [v.cos() + 2 for v in vars(scene).values()]))
    grow_torch(both[0], edit)
    fields, widths = _table(list(vars(both[1].scene).values()))
    moments, moment_widths = _table(both[1].moments)
    kernels.call_grow(
        *(fields, widths, moments, moment_widths, len(moments), _at(action)),
        *(ctypes.c_int64(count), ctypes.c_int64(after), ctypes.c_uint64(edit.seed), edit.step),
    )
    for a, b in zip(*(rows.buffers for rows in both), strict=True):
        assert torch.equal(a[:after], b[:after])


@pytest.mark.parametrize("given_keep", [False, True])
@pytest.mark.parametrize("count", [1, 256, 5000])
def test_classifying(kernels: ctypes.CDLL, count: int, given_keep: bool) -> None:
    g = torch.Generator().manual_seed(count)
    scene = scene_of_rows(count, sh=3)
    scene.means[::7] = torch.nan
    gradient = torch.randn(count, generator=g, dtype=torch.float64).exp()
    seen = torch.randint(0, 4, (count,), generator=g, dtype=torch.int32)
    keep = torch.rand(count, generator=g) < 0.7 if given_keep else None
    action, counts = torch.empty(count, dtype=torch.uint8), torch.empty(2, dtype=torch.int64)
    kernels.call_classify(
        *(*_table(list(vars(scene).values())), _at(gradient), _at(seen)),
        *(None if keep is None else _at(keep), (ctypes.c_double * 5)(*LIMITS)),
        *(ctypes.c_int64(count), _at(action), _at(counts)),
    )
    expected, totals = classify_torch(scene, gradient, seen, Limits(*LIMITS), keep)
    assert torch.equal(action, expected)
    assert torch.equal(counts, totals)


def test_observing(kernels: ctypes.CDLL) -> None:
    g = torch.Generator().manual_seed(0)
    grad2d, visible = torch.randn(3, 600, 2, generator=g), torch.rand(3, 600, generator=g) < 0.5
    grad2d[0, ~visible[0]] = torch.nan
    sums = [(torch.ones(600, dtype=torch.float64), torch.ones(600).int()) for _ in range(2)]
    observe_torch(*sums[0], grad2d, visible)
    kernels.call_observe(
        *map(_at, (*sums[1], grad2d, visible)), ctypes.c_int64(600), ctypes.c_int64(3)
    )
    for a, b in zip(*sums, strict=True):
        assert torch.equal(a, b)


def test_wandering(kernels: ctypes.CDLL) -> None:
    one, other = (scene_of_rows(600) for _ in range(2))
    one.opacity_logits.sub_(6.0)
    other.opacity_logits.sub_(6.0)
    wander_torch(one, 10.0, 4, 2**35)
    fields, widths = _table(list(vars(other).values()))
    seed, strength = ctypes.c_uint64(2**35), ctypes.c_double(10.0)
    kernels.call_wander(fields, widths, ctypes.c_int64(600), strength, seed, 4)
    assert torch.equal(one.means, other.means)
    assert not torch.equal(one.means, scene_of_rows(600).means)
