"""Networks in half precision that compute in float32 for a while."""

from pathlib import Path
from typing import Any

import pytest
import torch

from esd_splat.config import load_config
from esd_splat.distill.lora import AttachedLora, Lora
from esd_splat.errors import ConfigError
from esd_splat.scene.cameras import Orbit
from esd_splat.teacher import StableDiffusion
from esd_splat.teacher.latent import LatentTeacher
from esd_splat.teacher.random_weights import save_blank
from tests.tiny import DEFAULTS

CPU = torch.device("cpu")
CHANNELS = {"sd": 4, "sdxl": 4, "sd3": 16, "views": 4}
T = torch.tensor([100, 800])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("float32")
    return {name: save_blank(root / name, f"tiny-{name}") for name in CHANNELS}


def _load(folder: Path, dtype: torch.dtype) -> LatentTeacher:
    teacher = StableDiffusion(model=str(folder)).load(CPU, dtype)
    assert isinstance(teacher, LatentTeacher)
    return teacher


def _c2w() -> torch.Tensor:
    return Orbit().sample(2, torch.Generator().manual_seed(0)).c2w


def _inputs(teacher: LatentTeacher) -> tuple[torch.Tensor, ...]:
    noisy = torch.randn(2, *teacher.latent_shape, generator=torch.Generator().manual_seed(0))
    return noisy, T, teacher.told(teacher.embed(["a red owl"] * 2), _c2w())


@torch.no_grad()
@pytest.mark.parametrize("family", CHANNELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_the_network_whose_weights_were_converted(
    folders: dict[str, Path], family: str, dtype: torch.dtype
) -> None:
    teacher, wide = _load(folders[family], dtype), _load(folders[family], dtype)
    inputs = _inputs(teacher)
    with teacher.in_float32():
        found = teacher.eps(*inputs)
    wide.network.float()
    wide.dtype = torch.float32
    assert torch.equal(found, wide.eps(*inputs))
    assert not torch.equal(found, teacher.eps(*inputs))
    assert {p.dtype for p in teacher.network.parameters()} == {dtype}


def test_after_an_error_the_weights_are_as_before(folders: dict[str, Path]) -> None:
    teacher = _load(folders["sd"], torch.bfloat16)
    noisy, t, words = _inputs(teacher)
    with pytest.raises(RuntimeError), teacher.in_float32():
        teacher.eps(noisy, t, words[..., :-1])
    assert {p.dtype for p in teacher.network.parameters()} == {torch.bfloat16}
    assert teacher.dtype == torch.bfloat16


def _gap(folder: Path, dtype: torch.dtype, **keys: Any) -> torch.Tensor:
    """Return what the camera changes in the predictions of a LoRA with small random weights."""
    teacher = _load(folder, dtype)
    lora = Lora(rank=2, **keys).attach(teacher, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in lora.parameters:
            weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    noisy, t, words = (torch.cat([x, x]) for x in _inputs(teacher))
    found = lora.eps(
        noisy, t, words, _c2w().repeat(2, 1, 1), torch.tensor([False, False, True, True])
    )
    return found[:2] - found[2:]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_entropy_term_survives_half_precision(
    folders: dict[str, Path], dtype: torch.dtype
) -> None:
    known = _gap(folders["sd"], torch.float32)

    def error(**keys: Any) -> float:
        return ((_gap(folders["sd"], dtype, **keys) - known).norm() / known.norm()).item()

    assert error(precision="32") < 0.05
    assert error() > 3 * error(precision="32")


def test_the_teachers_rows_stay_in_the_precision_of_the_network(folders: dict[str, Path]) -> None:
    """They are bit for bit what the teacher alone predicts."""
    teacher = _load(folders["sd"], torch.bfloat16)
    lora: AttachedLora = Lora(rank=2, precision="32").attach(teacher, seed=0)
    inputs = once, at, told = _inputs(teacher)
    noisy, t, words = (torch.cat([x, x]) for x in inputs)
    found = lora.eps(noisy, t, words, _c2w(), torch.tensor([False, True]))
    none = lora.eps(once, at, told, _c2w()[:0], torch.zeros(0, dtype=torch.bool))
    with torch.no_grad():
        assert torch.equal(none, teacher.eps(*inputs))
        assert torch.equal(found[:2], teacher.eps(*inputs))
        with teacher.in_float32():  # a fresh LoRA predicts what the teacher does
            assert torch.equal(found[2:], teacher.eps(*inputs))


def test_a_compiled_network_is_refused() -> None:
    keys = ["prompt=a red owl", "loss=vsd", "lora.precision=32", "memory.compile=true"]
    with pytest.raises(ConfigError, match=r"lora.precision: must be network with memory.compile"):
        load_config(DEFAULTS, keys)
    load_config(DEFAULTS, [*keys[:1], "loss=sds", *keys[2:]])
