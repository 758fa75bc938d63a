"""The compiled CPU rasterizer against the reference in double precision, and its own guarantees."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from esd_splat.errors import BackendError
from esd_splat.scene import kernels
from esd_splat.scene.cameras import Cameras, Orbit
from esd_splat.scene.rasterize import rasterize
from tests.scene.rasterize.scenes import (
    F64,
    background,
    both,
    camera,
    drawn,
    random_scene,
    splat,
    wide_views,
)

pytestmark = pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING or "-")


@given(
    count=st.integers(0, 40),
    k=st.sampled_from([0, 3, 8, 15]),
    spread=st.sampled_from([0.05, 0.4, 1.5]),
    scale=st.sampled_from([1e-4, 0.03, 0.3, 3.0]),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    views=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_agrees_with_the_reference_in_double(
    count: int, k: int, spread: float, scale: float, width: int, height: int, views: int, seed: int
) -> None:
    scene = random_scene(count, seed, k, spread, scale)
    cameras = wide_views(width, height, views, seed, F64)
    expected, got = (drawn(scene, cameras, backend) for backend in ("reference", "cpu"))
    for name, value in expected.items():
        size = value.abs().max().clamp(min=1e-6) if value.numel() else 1.0
        torch.testing.assert_close(got[name] / size, value / size, rtol=1e-6, atol=1e-6, msg=name)


def test_bits_do_not_depend_on_threads() -> None:
    """The scene is large enough for the sort to be divided into parts."""
    scene = random_scene(20_000, 2, 0, 0.4, 0.02).map(Tensor.float)
    cameras = wide_views(64, 64, 2, 0)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            results.append(drawn(scene, cameras, "cpu"))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(results[0][name], other[name]) for name in other)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_agrees(isa: str) -> None:
    """Each runs in its own process, as the instruction set is chosen only once."""
    code = """if True:
        import torch
        from esd_splat.scene.rasterize import rasterize
        from tests.scene.rasterize.scenes import drawn, random_scene, wide_views
        scene = random_scene(300, 0, 3, 0.4, 0.06).map(torch.Tensor.float)
        cameras = wide_views(50, 40, 2, 0)
        a, b = (drawn(scene, cameras, backend) for backend in ("reference", "cpu"))
        for name in a:
            assert (a[name] - b[name]).norm() <= 1e-3 * a[name].norm(), name
        black, both = torch.zeros(2, 3), ("reference", "cpu")
        a, b = (rasterize(scene, cameras, black, backend, surface=True) for backend in both)
        for name, value in vars(a.surface).items():
            assert ((vars(b.surface)[name] - value).abs() > 1e-4).double().mean() < 1e-3, name
    """
    env = os.environ | {"ESD_SPLAT_ISA": isa}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    if "this processor and build have" in done.stderr:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stderr


def test_an_instruction_set_that_is_not_to_be_had_is_refused_before_a_run() -> None:
    code = "from esd_splat.scene.rasterize import resolve_backend as r; r('auto', 'cpu')"
    env = os.environ | {"ESD_SPLAT_ISA": "avx"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("esd_splat.errors.BackendError: ESD_SPLAT_ISA=avx: this processor")


def test_absolute_gradients_are_summed_over_pixels() -> None:
    scene, cameras = random_scene(6), camera(size=7)
    render = rasterize(scene.map(Tensor.requires_grad_), cameras, background(cameras), "reference")
    weight = torch.randn(1, 3, 7, 7, dtype=F64, generator=torch.Generator().manual_seed(0))
    per_pixel = (render.images * weight).sum(1).flatten()
    absolute = sum(
        torch.autograd.grad(pixel, render.means2d, retain_graph=True)[0].abs()
        for pixel in per_pixel
    )
    values = [v.detach() for v in vars(scene).values()]
    out = kernels.ops.project(*values, cameras.viewmats, cameras.Ks, 7, 7)
    bg = background(cameras)
    _, _, *bins, _ = kernels.ops.composite(*out[:6], bg, 7, 7, False)
    pulled = kernels.ops.composite_backward(
        *out[:5], bg, *bins, weight, torch.zeros(1, 7, 7, dtype=F64), True
    )
    torch.testing.assert_close(pulled[5], absolute)


# torch 2.14 emits this warning while tracing, and its own filter does not stop the error.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("views", [0, 2])
@pytest.mark.parametrize(("absgrad", "median"), [(False, True), (True, False)])
def test_torch_knows_shapes_and_gradients_of_the_kernels(
    views: int, absgrad: bool, median: bool
) -> None:
    """This holds without running them and when tracing for ``torch.compile``, with cut tiles."""
    ops, size = kernels.ops, (37, 22)
    scene, cameras = (
        random_scene(30, k=8).map(Tensor.float),
        wide_views(*size, views, 0),
    )
    leaf = vars(scene.map(lambda v: v.clone().requires_grad_())).values()
    torch.library.opcheck(ops.project.default, (*leaf, cameras.viewmats, cameras.Ks, *size))
    inputs = *vars(scene).values(), cameras.viewmats, cameras.Ks
    *shown, depths, _ = ops.project(*inputs, *size)
    torch.library.opcheck(
        ops.project_backward.default, (*inputs, *map(torch.ones_like, shown[:4]), *size)
    )
    rgb = torch.rand(views, 3)
    leaf = [v.clone().requires_grad_() for v in (*shown, depths, rgb)]
    torch.library.opcheck(ops.composite.default, (*leaf, *size, median))
    images, alphas, *bins, _ = ops.composite(*shown, depths, rgb, *size, median)
    torch.library.opcheck(
        ops.composite_backward.default, (*shown, rgb, *bins, images, alphas, absgrad)
    )


def test_a_second_derivative_is_refused() -> None:
    scene, cameras = random_scene(3).map(Tensor.requires_grad_), camera()
    images = rasterize(scene, cameras, background(cameras), "cpu").images
    (grad,) = torch.autograd.grad(images.square().sum(), scene.means, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_a_million_on_one_pixel() -> None:
    one = splat((0, 0, 0), 0.01, 1.0, scale=1e-3).map(Tensor.float)
    many = one.map(lambda v: v.expand(1_000_000, *v.shape[1:]).contiguous())
    cameras = camera(size=16).to("cpu")
    cameras = Cameras(cameras.viewmats.float(), cameras.Ks.float(), 16, 16)
    got = drawn(many, cameras, "cpu")
    assert got["images"].isfinite().all()
    assert 0.999 < got["alphas"].max() <= 1
    assert got["d sh0"].isfinite().all()


def _inputs() -> dict[str, Tensor]:
    scene, cameras = random_scene(3).map(Tensor.float), Orbit(size=8).turntable(2)
    return vars(scene) | {"viewmats": cameras.viewmats, "Ks": cameras.Ks}


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("means", lambda v: v[:, :2], r"means: must have shape \[3, 3\], got \[3, 2\]"),
        ("means", lambda v: v.flatten(), r"means: must have shape \[n, 3\], got \[9\]"),
        ("means", Tensor.half, "means: must be float32 or float64"),
        ("quats", Tensor.double, "quats: must be float32, got float64"),
        ("quats", lambda v: v[:2], r"quats: must have shape \[3, 4\], got \[2, 4\]"),
        ("log_scales", lambda v: v.repeat(1, 2)[:, ::2], "log_scales: must be contiguous"),
        ("opacity_logits", Tensor.long, "opacity_logits: must be float32, got int64"),
        ("shN", lambda v: v[:, :2].contiguous(), "shN: must hold 0, 3, 8 or 15 bands, got 2"),
        ("viewmats", lambda v: v[0], r"viewmats: must have shape \[b, 4, 4\], got \[4, 4\]"),
        ("Ks", lambda v: v[:1], r"Ks: must have shape \[2, 3, 3\], got \[1, 3, 3\]"),
    ],
)
def test_bad_input_is_one_line_that_names_it(
    name: str, change: Callable[[Tensor], Tensor], says: str
) -> None:
    inputs = _inputs()
    inputs[name] = change(inputs[name])
    with pytest.raises(RuntimeError, match=f"^{says}") as error:
        kernels.ops.project(*inputs.values(), 8, 8)
    assert "\n" not in str(error.value)


def test_more_overlaps_than_can_be_counted_are_refused() -> None:
    """The refusal of 40,000 Gaussians in 65,536 tiles each comes before any allocation."""
    huge = splat((0, 0, 0), 0.5, 1.0, scale=1e4).map(Tensor.float)
    many = huge.map(lambda v: v.expand(40_000, *v.shape[1:]).contiguous())
    cameras = camera(size=4096)
    cameras = Cameras(cameras.viewmats.float(), cameras.Ks.float(), 4096, 4096)
    with pytest.raises(RuntimeError, match="too many overlaps: the Gaussians touch 2621440000"):
        rasterize(many, cameras, torch.zeros(1, 3), "cpu")


def test_tensors_elsewhere_are_refused() -> None:
    scene = both(splat((0, 0, 0), 0.5, 1.0)).map(lambda v: v.to("meta"))
    with pytest.raises(BackendError, match="backend=cpu needs the CPU, and this run is on meta"):
        rasterize(scene, camera(), background(camera()), "cpu")
