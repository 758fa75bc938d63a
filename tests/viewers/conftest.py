"""What the tests of the viewers share, drawn once."""

import pytest

from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from tests.viewers import gate, objects


@pytest.fixture(scope="session")
def scene() -> Gaussians:
    return objects.thing()


@pytest.fixture(scope="session")
def views() -> Cameras:
    return gate.cameras()


@pytest.fixture(scope="session")
def expected(scene: Gaussians, views: Cameras) -> gate.Expected:
    return gate.Expected.of(scene, views)


@pytest.fixture(scope="session")
def expected_flat(scene: Gaussians, views: Cameras) -> gate.Expected:
    """Of what a format keeps that has no view-dependent colour."""
    flat = Gaussians(**vars(scene) | {"shN": scene.shN[:, :0]})
    return gate.Expected.of(flat, views)
