"""gsplat's kernels without their arithmetic: what they take, and what they return.

The names of the parameters are those of gsplat's ``Ops.h``, which ``test_gsplat_kernels`` reads.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.fakegpu.counts import Counts

TILES = 12
"""Tiles that a Gaussian touches. The real number depends on the scene."""


class Kernels:
    """The module ``gsplat.cuda._backend._C``, as far as a step uses it."""

    PINHOLE = "pinhole"  # gsplat reads CameraModelType.PINHOLE from here
    CameraModelType = None

    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    def projection_ewa_3dgs_fused_fwd(
        self,
        means: Tensor,
        covars: Tensor | None,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        image_width: int,
        image_height: int,
        eps2d: float,
        near_plane: float,
        far_plane: float,
        radius_clip: float,
        calc_compensations: bool,
        camera_model: Any,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        floats(means, covars, quats, scales, opacities, viewmats, Ks)
        b, n = viewmats.shape[-3], means.shape[-2]
        shapes = (b, n, 2), (b, n), (b, n, 3)
        means2d, depths, conics = (means.new_empty(shape) for shape in shapes)
        radii = means.new_empty((b, n, 2), dtype=torch.int32)
        return radii, means2d, depths, conics, depths.clone() if calc_compensations else None

    def projection_ewa_3dgs_fused_bwd(
        self,
        means: Tensor,
        covars: Tensor | None,
        quats: Tensor,
        scales: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        image_width: int,
        image_height: int,
        eps2d: float,
        camera_model: Any,
        radii: Tensor,
        conics: Tensor,
        compensations: Tensor | None,
        v_means2d: Tensor,
        v_depths: Tensor,
        v_conics: Tensor,
        v_compensations: Tensor | None,
        viewmats_requires_grad: bool,
    ) -> tuple[Tensor | None, ...]:
        floats(means, covars, quats, scales, viewmats, Ks, conics, compensations)
        floats(v_means2d, v_depths, v_conics, v_compensations)
        whole(torch.int32, radii)
        return tuple(
            None if x is None else torch.empty_like(x)
            for x in (means, covars, quats, scales, viewmats)
        )

    def spherical_harmonics_fwd(
        self, degrees_to_use: int, dirs: Tensor, coeffs: Tensor, masks: Tensor | None
    ) -> Tensor:
        floats(dirs, coeffs)
        whole(torch.bool, masks)
        return torch.empty_like(dirs)

    def spherical_harmonics_bwd(
        self,
        K: int,
        degrees_to_use: int,
        dirs: Tensor,
        coeffs: Tensor,
        masks: Tensor | None,
        v_colors: Tensor,
        compute_v_dirs: bool,
    ) -> tuple[Tensor, Tensor | None]:
        floats(dirs, coeffs, v_colors)
        whole(torch.bool, masks)
        return torch.empty_like(coeffs), torch.empty_like(dirs) if compute_v_dirs else None

    def intersect_tile(
        self,
        means2d: Tensor,
        radii: Tensor,
        depths: Tensor,
        image_ids: Tensor | None,
        gaussian_ids: Tensor | None,
        I: int,  # noqa: E741
        tile_size: int,
        tile_width: int,
        tile_height: int,
        sort: bool,
        segmented: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        floats(means2d, depths)
        whole(torch.int32, radii)
        self.counts.wait(depths, "gsplat intersect_tile")  # for the number of pairs
        pairs = TILES * depths.numel()
        keys = means2d.new_empty(pairs, dtype=torch.int64)
        rows = means2d.new_empty(pairs, dtype=torch.int32)
        # Sorting takes a second pair of buffers.
        found = torch.empty_like(keys), torch.empty_like(rows)
        return means2d.new_empty(depths.shape, dtype=torch.int32), *found

    def intersect_offset(
        self,
        isect_ids: Tensor,
        I: int,  # noqa: E741
        tile_width: int,
        tile_height: int,
    ) -> Tensor:
        whole(torch.int64, isect_ids)
        return isect_ids.new_empty((I, tile_height, tile_width), dtype=torch.int32)

    def rasterize_to_pixels_3dgs_fwd(
        self,
        means2d: Tensor,
        conics: Tensor,
        colors: Tensor,
        opacities: Tensor,
        backgrounds: Tensor | None,
        masks: Tensor | None,
        image_width: int,
        image_height: int,
        tile_size: int,
        tile_offsets: Tensor,
        flatten_ids: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        floats(means2d, conics, colors, opacities, backgrounds)
        whole(torch.bool, masks)
        whole(torch.int32, tile_offsets, flatten_ids)
        size = (*tile_offsets.shape[:-2], image_height, image_width)
        images, alphas = means2d.new_empty(*size, colors.shape[-1]), means2d.new_empty(*size, 1)
        return images, alphas, means2d.new_empty(size, dtype=torch.int32)

    def rasterize_to_pixels_3dgs_bwd(
        self,
        means2d: Tensor,
        conics: Tensor,
        colors: Tensor,
        opacities: Tensor,
        backgrounds: Tensor | None,
        masks: Tensor | None,
        image_width: int,
        image_height: int,
        tile_size: int,
        tile_offsets: Tensor,
        flatten_ids: Tensor,
        render_alphas: Tensor,
        last_ids: Tensor,
        v_render_colors: Tensor,
        v_render_alphas: Tensor,
        absgrad: bool,
    ) -> tuple[Tensor | None, ...]:
        floats(means2d, conics, colors, opacities, backgrounds, render_alphas)
        floats(v_render_colors, v_render_alphas)
        whole(torch.bool, masks)
        whole(torch.int32, tile_offsets, flatten_ids, last_ids)
        found = (torch.empty_like(x) for x in (means2d, conics, colors, opacities))
        return torch.empty_like(means2d) if absgrad else None, *found


def module(counts: Counts) -> SimpleNamespace:
    """What takes the place of the module ``gsplat.cuda._backend``."""
    return SimpleNamespace(_C=Kernels(counts))


def floats(*tensors: Tensor | None) -> None:
    whole(torch.float32, *tensors)


def whole(dtype: torch.dtype, *tensors: Tensor | None) -> None:
    """Check what gsplat's ``CHECK_INPUT`` checks, and the type that its kernels read."""
    for x in tensors:
        if x is None:
            continue
        found = x.device.type, x.dtype, x.is_contiguous()
        assert found == ("cuda", dtype, True), f"gsplat takes contiguous {dtype} on CUDA: {found}"
