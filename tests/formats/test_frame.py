import torch
from torch import Tensor

from esd_splat.formats.frame import FRAME_COMMENT, from_file_frame, to_file_frame
from esd_splat.scene.gaussians import quats_to_rotmats
from tests.formats.scenes import scene


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.view(torch.int32), b.view(torch.int32))


def test_there_and_back_are_the_same_bits() -> None:
    """Two round trips, as the rotation has order four in quaternions. Zeros keep their sign."""
    original = scene(50)
    original.means[0] = torch.tensor([0.0, -0.0, 0.0])
    again = original
    for _ in range(2):
        again = from_file_frame(to_file_frame(again))
    for name, value in vars(original).items():
        assert _same_bits(value, getattr(again, name)), name


def test_up_becomes_down_and_the_front_stays_visible() -> None:
    """The file is the scene rotated by 180 degrees about x, so a rotated camera sees what it saw
    before, including colours that depend on the view."""
    original = scene(50)
    turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    file = to_file_frame(original)
    assert torch.equal(file.means, original.means @ turn)
    torch.testing.assert_close(
        quats_to_rotmats(file.quats), turn @ quats_to_rotmats(original.quats)
    )
    eyes = torch.tensor([[0.0, 0.5, 3.0], [-2.0, 1.0, 0.3]])
    torch.testing.assert_close(file.colors(eyes @ turn), original.colors(eyes))
    assert "y down, front at -z" in FRAME_COMMENT
