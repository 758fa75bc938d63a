import math

import pytest
import torch

from esd_splat.scene.cameras import Cameras, Orbit, orbit_cameras


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_origin_is_seen_at_the_image_centre_at_its_distance() -> None:
    cameras = Orbit(distance=(1.2, 1.2), size=64).sample(16, _seeded())
    origin = cameras.viewmats @ torch.tensor([0.0, 0.0, 0.0, 1.0])
    pixel = (cameras.Ks @ origin[:, :3, None]).squeeze(-1)
    torch.testing.assert_close(
        pixel[:, :2] / pixel[:, 2:], torch.full((16, 2), 32.0), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(origin[:, 2], torch.full((16,), 1.2))


def test_axes_are_right_handed_and_orthonormal() -> None:
    R = Orbit().sample(16, _seeded(1)).viewmats[:, :3, :3]
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(16, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(16))


def test_the_four_sides_stand_where_the_conventions_say() -> None:
    """Azimuth 0 is at +z, 90 at +x, 180 at -z, -90 at -x. World up is up in the image."""
    cameras = Orbit(distance=(2.0, 2.0)).turntable(4, elevation=0.0)
    expected = torch.tensor([[0.0, 0, 2], [2, 0, 0], [0, 0, -2], [-2, 0, 0]])
    torch.testing.assert_close(cameras.eyes, expected, atol=1e-6, rtol=0)
    up = cameras.viewmats[:, :3, :3] @ torch.tensor([0.0, 1, 0])
    torch.testing.assert_close(up, torch.tensor([[0.0, -1, 0]]).expand(4, 3), atol=1e-6, rtol=0)
    right = cameras.viewmats[0, :3, :3] @ torch.tensor([1.0, 0, 0])
    torch.testing.assert_close(right, torch.tensor([1.0, 0, 0]), atol=1e-6, rtol=0)


def test_angles_are_recovered_from_the_matrices() -> None:
    azimuth = torch.tensor([-179.0, -90, -0.5, 0, 30, 135, 180, 200])
    elevation = torch.tensor([-80.0, -10, 0, 5, 30, 60, 0, 89])
    ones = torch.ones(8)
    cameras = orbit_cameras(azimuth, elevation, 3 * ones, 40 * ones, 32)
    expected = torch.where(azimuth > 180, azimuth - 360, azimuth)
    torch.testing.assert_close(cameras.azimuth_deg, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(cameras.elevation_deg, elevation, atol=1e-4, rtol=0)
    assert (cameras.azimuth_deg > -180).all()
    assert (cameras.azimuth_deg <= 180).all()


def test_the_back_is_at_plus_180_whatever_the_sign_of_zero() -> None:
    viewmats = torch.eye(4)[None].clone()
    viewmats[0, 2, 3] = 2.0  # the eye is at (-0, -0, -2), and atan2(-0, -2) is -180 degrees
    assert Cameras(viewmats, torch.eye(3)[None], 8, 8).azimuth_deg.item() == 180


def test_camera_to_world_undoes_world_to_camera() -> None:
    cameras = Orbit(elevation=(-40.0, 80.0)).sample(8, _seeded())
    identity = torch.eye(4).expand(8, 4, 4)
    torch.testing.assert_close(cameras.c2w @ cameras.viewmats, identity, atol=1e-6, rtol=0)
    torch.testing.assert_close(cameras.c2w[:, :3, 3], cameras.eyes)


@pytest.mark.parametrize("fov", [20.0, 40.0, 90.0])
def test_the_field_of_view_ends_at_the_edge_of_the_image(fov: float) -> None:
    """A point at half the field of view above the axis falls on the top edge."""
    cameras = Orbit(distance=(2.0, 2.0), fov=(fov, fov), size=48).turntable(1, elevation=0.0)
    height = 2 * math.tan(math.radians(fov / 2))
    point = (cameras.viewmats[0] @ torch.tensor([0.0, height, 0.0, 1.0]))[:3]
    u, v, w = (cameras.Ks[0] @ point).tolist()
    assert u / w == pytest.approx(24, abs=1e-4)
    assert v / w == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 4, 7])
def test_stratified_azimuths_take_one_sector_each(batch: int) -> None:
    """The i-th camera is in the i-th sector from some start, so gaps are at most two sectors."""
    for seed in range(20):
        azimuth = Orbit().sample(batch, _seeded(seed)).azimuth_deg
        gaps = (
            torch.cat([azimuth, azimuth[:1]]).diff() % 360 if batch > 1 else torch.tensor([360.0])
        )
        assert (gaps <= 2 * 360 / batch + 1e-3).all()
        assert gaps.sum().item() == pytest.approx(360, abs=1e-2)


def test_a_ring_is_evenly_spaced_and_shares_all_else() -> None:
    orbit = Orbit(distance=(2.0, 4.0), elevation=(-20.0, 60.0), fov=(30.0, 70.0), ring=True)
    rings = [orbit.sample(4, _seeded(seed)) for seed in range(20)]
    for ring in rings:
        gaps = torch.cat([ring.azimuth_deg, ring.azimuth_deg[:1]]).diff() % 360
        torch.testing.assert_close(gaps, torch.full((4,), 90.0), atol=1e-3, rtol=0)
        for same in (ring.elevation_deg, ring.eyes.norm(dim=1), ring.Ks[:, 0, 0]):
            torch.testing.assert_close(same, same[:1].expand(4), atol=1e-4, rtol=1e-5)
    for values in zip(*((r.elevation_deg[0], r.Ks[0, 0, 0]) for r in rings), strict=True):
        assert len(set(map(float, values))) == len(rings)


@pytest.mark.parametrize("orbit", [Orbit(), Orbit(stratified=False), Orbit(ring=True)])
def test_each_azimuth_alone_is_uniform(orbit: Orbit) -> None:
    """Over 1000 batches, the counts of each camera in 10 bins pass a chi-squared test at 0.1 %."""
    generator = _seeded()
    azimuths = torch.stack([orbit.sample(3, generator).azimuth_deg for _ in range(1000)])
    for column in azimuths.T:
        counts = torch.histc(column, bins=10, min=-180, max=180)
        assert ((counts - 100) ** 2 / 100).sum() < 27.9


def test_every_configured_range_is_filled_and_kept() -> None:
    orbit = Orbit(distance=(1.5, 4.0), elevation=(-20.0, 60.0), fov=(30.0, 70.0), size=100)
    cameras = orbit.sample(500, _seeded())
    fov = torch.rad2deg(2 * torch.atan(50 / cameras.Ks[:, 1, 1]))
    for values, (low, high) in (
        (cameras.eyes.norm(dim=1), orbit.distance),
        (cameras.elevation_deg, orbit.elevation),
        (fov, orbit.fov),
    ):
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high + 1e-4


def test_the_same_seed_gives_the_same_cameras_and_the_ranges_do_not_shift_the_azimuths() -> None:
    one, two = (Orbit().sample(4, _seeded(3)) for _ in range(2))
    assert torch.equal(one.viewmats, two.viewmats)
    other = Orbit(elevation=(5.0, 50.0), fov=(30.0, 60.0)).sample(4, _seeded(3))
    torch.testing.assert_close(other.azimuth_deg, one.azimuth_deg)


def test_a_turntable_stands_at_the_middle_of_the_ranges() -> None:
    cameras = Orbit(distance=(2.0, 4.0), fov=(30.0, 50.0), size=64).turntable(6, 20.0, size=32)
    torch.testing.assert_close(cameras.eyes.norm(dim=1), torch.full((6,), 3.0))
    torch.testing.assert_close(cameras.elevation_deg, torch.full((6,), 20.0))
    torch.testing.assert_close(
        cameras.azimuth_deg, torch.tensor([0.0, 60, 120, 180, -120, -60]), atol=1e-4, rtol=0
    )
    assert (len(cameras), cameras.width, cameras.height) == (6, 32, 32)
    torch.testing.assert_close(cameras.Ks[0, 1, 1].item(), 16 / math.tan(math.radians(20)))


def test_moving_to_a_device_moves_the_matrices() -> None:
    moved = Orbit().turntable(2).to("meta")
    assert moved.viewmats.is_meta
    assert moved.Ks.is_meta


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"distance": (3.0, 2.0)}, "distance: low must not exceed high, got [3, 2]"),
        ({"distance": (1.0, 2.0)}, "distance: must be above 1, got 1"),
        ({"distance": (2.0, math.inf)}, "distance: must be above 1, got inf"),
        ({"elevation": (-90.0, 0.0)}, "elevation: must be in [-89, 89], got -90"),
        ({"fov": (40.0, 180.0)}, "fov: must be in (0, 180), got 180"),
        ({"fov": (math.nan, 40.0)}, "fov: must be in (0, 180), got nan"),
        ({"size": 7}, "size: must be in [8, 4096], got 7"),
        ({"size": 4, "fov": (0.0, 1.0)}, "size: must be in [8, 4096], got 4"),
    ],
)
def test_ranges_are_checked(bad: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Orbit(**bad)  # pyright: ignore[reportArgumentType]
    assert message in str(error.value).split("\n")


def test_all_that_is_wrong_is_said_at_once_one_line_each() -> None:
    with pytest.raises(ValueError, match=r"distance: .*\nelevation: .*\nfov: .*\nsize: ") as error:
        Orbit(distance=(0.5, 2.0), elevation=(0.0, 95.0), fov=(-1.0, 2.0), size=0)
    assert len(str(error.value).split("\n")) == 4
