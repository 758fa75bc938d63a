import math

import pytest
import torch
from torch import Tensor

from esd_splat.scene.gaussians import SH_C0, SH_DEGREES, Gaussians, quats_to_rotmats, sh_basis

F64 = torch.float64


def _scene(n: int = 6, k: int = 3) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    shapes = [3], [4], [3], [], [1, 3], [k, 3]
    return Gaussians(*(torch.randn(n, *s, generator=g, dtype=F64) for s in shapes))


def test_quarter_turns_permute_the_axes() -> None:
    """Quaternions are wxyz and right-handed: turning about z maps x to y, and so on."""
    h = math.sqrt(0.5)
    quats = torch.tensor([[h, 0, 0, h], [h, h, 0, 0], [h, 0, h, 0]])
    x, y, z = torch.eye(3)
    turned = quats_to_rotmats(quats) @ torch.stack([x, y, z])[:, :, None]
    torch.testing.assert_close(turned.squeeze(-1), torch.stack([y, z, x]), atol=1e-6, rtol=0)


def test_general_rotation_matches_the_exponential_map() -> None:
    axis_angle: Tensor = torch.tensor([0.3, -0.7, 0.4], dtype=F64)
    x, y, z = axis_angle.tolist()
    hat = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=F64)
    half = axis_angle.norm() / 2
    quat = torch.cat([half.cos()[None], half.sin() * axis_angle / axis_angle.norm()])
    torch.testing.assert_close(quats_to_rotmats(quat[None])[0], torch.linalg.matrix_exp(hat))


def test_scales_are_standard_deviations_along_the_own_axes() -> None:
    scene = _scene()
    variances, axes = torch.linalg.eigh(scene.covariances)
    torch.testing.assert_close(variances.sqrt().log(), scene.log_scales.sort(dim=1).values)
    order = scene.log_scales.argsort(dim=1)
    own = quats_to_rotmats(scene.quats).gather(2, order[:, None].expand(-1, 3, -1))
    torch.testing.assert_close((own * axes).sum(dim=1).abs(), torch.ones(6, 3, dtype=F64))


def test_the_harmonics_are_orthonormal() -> None:
    """Integrate over the sphere exactly to degree 6: Gauss-Legendre in z, uniform in azimuth."""
    nodes, weights = torch.tensor(
        [
            [0.0, 0.4058451513773972, 0.7415311855993945, 0.9491079123427585],
            [0.4179591836734694, 0.3818300505051189, 0.2797053914892766, 0.1294849661688697],
        ],
        dtype=F64,
    )
    z = torch.cat([nodes, -nodes[1:]])[:, None].expand(-1, 8)
    azimuth = torch.arange(8, dtype=F64) * math.pi / 4
    level = (1 - z * z).sqrt()
    d = torch.stack([level * azimuth.cos(), level * azimuth.sin(), z], dim=-1).view(-1, 3)
    area = torch.cat([weights, weights[1:]]).repeat_interleave(8) * math.pi / 4
    basis = sh_basis(d, degree=3)
    gram = torch.einsum("p,pi,pj->ij", area, basis, basis)
    torch.testing.assert_close(gram, torch.eye(16, dtype=F64))


def test_degree_one_has_the_signs_of_3dgs() -> None:
    """They are -y, z and -x."""
    y_z_x = sh_basis(torch.eye(3), degree=1)[[1, 2, 0], [1, 2, 3]] / 0.4886025119029199
    torch.testing.assert_close(y_z_x, torch.tensor([-1.0, 1.0, -1.0]))


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_a_lower_degree_is_the_beginning_of_a_higher_one(degree: int) -> None:
    d = torch.nn.functional.normalize(torch.randn(9, 3, dtype=F64))
    count = (degree + 1) ** 2
    assert torch.equal(sh_basis(d, degree), sh_basis(d, 3)[:, :count])


def test_colours_are_middle_grey_plus_the_harmonics_and_never_negative() -> None:
    scene, eyes = _scene(k=8), torch.randn(4, 3, dtype=F64)
    colors = scene.colors(eyes)
    assert (colors == 0).any(), "else the floor is not tested"
    for view, eye in enumerate(eyes):
        for row in range(6):
            d = (scene.means[row] - eye) / (scene.means[row] - eye).norm()
            coefficients = torch.cat([scene.sh0[row], scene.shN[row]])
            expected = 0.5 + sh_basis(d, 2) @ coefficients
            torch.testing.assert_close(colors[view, row], expected.clamp(min=0))


def test_without_higher_degrees_every_eye_sees_the_same() -> None:
    scene = _scene(k=0)
    colors = scene.colors(torch.randn(3, 3, dtype=F64))
    expected = (0.5 + SH_C0 * scene.sh0[:, 0]).clamp(min=0)
    assert all(torch.equal(view, expected) for view in colors)


def test_the_degree_follows_from_the_number_of_coefficients() -> None:
    assert {k: _scene(k=k).sh_degree for k in SH_DEGREES} == {0: 0, 3: 1, 8: 2, 15: 3}
    with pytest.raises(ValueError, match="shN: must hold 0, 3, 8 or 15 coefficients, got 4"):
        _scene(k=4)


def test_map_changes_every_parameter_and_len_counts_rows() -> None:
    scene = _scene().map(lambda value: 2 * value[1:4])
    assert len(scene) == 3
    for name, value in vars(_scene()).items():
        assert torch.equal(getattr(scene, name), 2 * value[1:4])
