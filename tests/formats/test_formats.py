"""The errors of each lossy format are at most the rounding of its numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from esd_splat.errors import OutputError, SceneError
from esd_splat.formats import load_scene
from esd_splat.formats.base import Exporter
from esd_splat.formats.frame import to_file_frame
from esd_splat.scene.gaussians import SH_C0, Gaussians
from tests.formats.scenes import FORMATS, radians_apart, scene

LOSSY = sorted(FORMATS.keys() - {"ply"})


def _pair(exporter: Exporter, original: Gaussians, folder: Path) -> tuple[Gaussians, Gaussians]:
    """The scene in the order of the file, and the scene that is read from the file."""
    path = folder / f"scene{exporter.suffix}"
    exporter.write(original, path)
    order = exporter.order(to_file_frame(original))
    assert torch.equal(order.sort().values, torch.arange(len(original)))
    return original.map(lambda value: value[order]), load_scene(path)


def _chunk_range(values: Tensor) -> Tensor:
    """The range of the values in the chunk of 256 rows that each row is in."""
    chunks = [c.amax(dim=0) - c.amin(dim=0) for c in values.split(256)]
    return torch.stack(chunks).repeat_interleave(256, dim=0)[: len(values)]


def _rotation_limit(step: float) -> float:
    """The angle in radians between quaternions with three components off by half a ``step``.

    The fourth component is the largest, at least 1/2, and follows from the others, so it is off by
    at most three times as much. The quaternions are then sqrt(3 + 9) half steps apart, and the
    rotations twice as far. 1 % is added for terms of higher order.
    """
    return 2 * 12**0.5 * step / 2 * 1.01


def _limits(name: str, file: Gaussians) -> dict[str, Tensor | float]:
    """The largest allowed errors. ``file`` is the scene in the order of the file."""
    rgb = SH_C0 * file.sh0[:, 0]
    if name == "compressed.ply":
        steps = torch.tensor([2047, 1023, 2047])
        return {
            "means": _chunk_range(file.means) / steps / 2,
            "rgb": _chunk_range(rgb) / 255 / 2,
            "rest": 8 / 256 / 2,
            "opacities": 1 / 255 / 2,
            "log_scales": _chunk_range(file.log_scales) / steps / 2,
            "radians": _rotation_limit(2**0.5 / 1023),
        }
    if name == "splat":
        return {  # values are rounded down, so they are off by up to a whole step
            "means": 0.0,
            "rgb": 1 / 255,
            "opacities": 1 / 255,
            "log_scales": 0.0,
            # With four components off by a step of 1/128, unit quaternions are at most 2/128
            # apart. The angle between rotations is twice that between quaternions.
            "radians": 2 * float(np.arcsin(2 / 128)),
        }
    if name == "spz":
        degree_1 = torch.full((3, 3), 1 / 16 / 2)
        return {
            "means": float(file.means.abs().max()) * 2**-14 / 2,
            "rgb": SH_C0 / 0.15 / 255 / 2,
            "rest": torch.cat([degree_1, torch.full((12, 3), 1 / 8 / 2)])[: file.shN.shape[1]],
            "opacities": 1 / 255 / 2,
            "log_scales": 1 / 16 / 2,
            "radians": _rotation_limit(2**-0.5 / 511),
        }
    assert name == "sog"
    logs = file.means.abs().log1p() * file.means.sign()
    step = (logs.amax(dim=0) - logs.amin(dim=0)) / 65535
    return {
        "means": (1 + file.means.abs()) * step / 2,
        "opacities": 1 / 255 / 2,
        "radians": _rotation_limit(2**0.5 / 255),
    }


@pytest.mark.parametrize("k", [0, 3, 8, 15])
@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize(("n", "unit"), [(1, 1.0), (2, 1.0), (257, 0.05), (700, 50.0)])
def test_errors_are_within_the_formats_steps(
    tmp_path: Path, name: str, k: int, n: int, unit: float
) -> None:
    file, back = _pair(FORMATS[name](), scene(n, k, unit=unit), tmp_path)
    apart = {
        "means": (back.means - file.means).abs(),
        "rgb": SH_C0 * (back.sh0 - file.sh0)[:, 0].abs(),
        "rest": (back.shN - file.shN).abs() if name != "splat" else torch.zeros(n, k, 3),
        "opacities": (back.opacities - file.opacities).abs(),
        "log_scales": (back.log_scales - file.log_scales).abs(),
        "radians": radians_apart(back.quats, file.quats),
    }
    for quantity, limit in _limits(name, file).items():
        slack = 1e-6 * max(1.0, unit)  # for the rounding of float32
        assert (apart[quantity] <= limit + slack).all(), (quantity, apart[quantity].max())
    assert back.sh_degree == (0 if name == "splat" else file.sh_degree)


@pytest.mark.parametrize("k", [0, 15])
def test_codebooks_are_no_worse_than_even_steps(tmp_path: Path, k: int) -> None:
    """In mean square, for the scales, colours and SH coefficients of ``.sog``. With a thousand
    Gaussians, each has its own set of coefficients, so only the codebook rounds them."""
    original = scene(1000, k)
    wild = original.log_scales.clone()
    wild[0] = -30.0  # one flat Gaussian must not make the others coarse
    original = Gaussians(**vars(original) | {"log_scales": wild})
    file, back = _pair(FORMATS["sog"](), original, tmp_path)
    for name in ("log_scales", "sh0", "shN") if k else ("log_scales", "sh0"):
        values = getattr(file, name)
        even = (values.max() - values.min()) / 255
        mean_square = (getattr(back, name) - values).square().mean()
        assert mean_square <= even**2 / 12, name
    others = file.log_scales.amin(dim=1) > -30
    span = file.log_scales[others].max() - file.log_scales[others].min()
    off = (back.log_scales - file.log_scales)[others]
    assert off.square().mean() <= (span / 255) ** 2 / 12


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_rows_that_are_alike_come_back(tmp_path: Path, name: str) -> None:
    """Ranges of zero width cause no division by zero, and equal means keep different colours."""
    original = scene(600, 3).map(lambda value: value[:1].expand(600, *value.shape[1:]).clone())
    original.sh0[:] = torch.linspace(-1.6, 1.6, 600)[:, None, None]
    file, back = _pair(FORMATS[name](), original, tmp_path)
    torch.testing.assert_close(back.means, file.means, rtol=0, atol=2**-15)
    torch.testing.assert_close(back.log_scales, file.log_scales, rtol=0, atol=1 / 32)
    torch.testing.assert_close(SH_C0 * back.sh0, SH_C0 * file.sh0, rtol=0, atol=1 / 255)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_exceeds_a_format_is_taken_to_its_end(tmp_path: Path, name: str) -> None:
    """Opaque, transparent and flat Gaussians, and quaternions of any length, cause no NaN."""
    original = scene(300, 0)
    original.opacity_logits[:2] = torch.tensor([200.0, -200.0])
    original.log_scales[2] = torch.tensor([-120.0, 80.0, -3.0])
    original.quats[3:5] *= torch.tensor([[1e20], [1e-10]])
    original.sh0[5] = 1e4
    file, back = _pair(FORMATS[name](), original, tmp_path)
    torch.testing.assert_close(back.opacities, file.opacities, rtol=0, atol=1 / 255)
    ordinary = (file.log_scales > -9).all(dim=1) & (file.log_scales < 5).all(dim=1)
    assert ordinary.sum() == 299
    assert radians_apart(back.quats, file.quats).max() < 0.04
    flat = back.log_scales[~ordinary][0]
    assert (flat.diff() * torch.tensor([1.0, -1.0]) > 0).all()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_same_scene_makes_the_same_file(name: str) -> None:
    exporter = FORMATS[name]()
    assert exporter.encode(scene(), "a red owl") == exporter.encode(scene(), "a red owl")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_cannot_be_read_back_is_not_written(tmp_path: Path, name: str) -> None:
    exporter, path = FORMATS[name](), tmp_path / f"scene.{name}"
    with pytest.raises(SceneError, match=r"not written: the scene has no Gaussians$"):
        exporter.write(scene(0), path)
    broken = scene(5)
    broken.means[3, 1] = torch.nan
    with pytest.raises(SceneError, match=r"not written: 1 of 5 Gaussians hold NaN.*row 3\)"):
        exporter.write(broken, path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        exporter.write(scene(5), tmp_path / "file" / path.name)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["spz", "sog"])
def test_too_many_gaussians_for_a_format_are_refused(tmp_path: Path, name: str) -> None:
    most = int(FORMATS[name].most)
    many = scene(1, 0).map(lambda value: value.expand(most + 1, *value.shape[1:]))
    message = f"holds at most {most} Gaussians, but the scene has {most + 1}; keep fewer"
    with pytest.raises(SceneError, match=message):
        FORMATS[name]().write(many, tmp_path / f"scene.{name}")
    assert not list(tmp_path.iterdir())


def test_coordinates_too_large_for_spz_are_refused(tmp_path: Path) -> None:
    far = scene(3, 0)
    far.means[0, 0] = 2.0**23
    with pytest.raises(SceneError, match=r"coordinates up to 8388607, got 8\.38861e\+06"):
        FORMATS["spz"]().write(far, tmp_path / "scene.spz")
    far.means[0, 0] = 2.0**23 - 1
    _, back = _pair(FORMATS["spz"](), far, tmp_path)
    assert back.means[0, 0] == 2.0**23 - 1


def test_float64_on_any_graph_is_written_as_float32(tmp_path: Path) -> None:
    original = scene(5).map(lambda value: value.double().requires_grad_())
    _, back = _pair(FORMATS["ply"](), original, tmp_path)
    assert torch.equal(back.means, original.means.detach().float())
