"""How a step's random draws get to the device."""

import torch

from esd_splat.distill.draws import Drawn, TrainingDraws, moved, pack, unpack
from esd_splat.scene.cameras import Orbit


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_packed_tensors_are_the_same_bits_after_unpacking() -> None:
    """Of any type and shape, strided or empty."""
    known = [
        torch.randn(3, 5, generator=_generator()),
        torch.tensor([True, False, True]),
        torch.randint(1000, (2,), generator=_generator()),
        torch.tensor([7]).expand(5),
        torch.randn(0, 4),
        torch.randn(4, 6, generator=_generator()).T,
        torch.tensor(2.5, dtype=torch.float64),
    ]
    for one, found in zip(known, unpack(pack(known), known), strict=True):
        assert found.dtype == one.dtype
        assert torch.equal(found, one)
        assert found.storage_offset() * found.element_size() % 16 == 0


def test_on_the_cpu_nothing_is_copied() -> None:
    known = [torch.zeros(3), torch.ones(2)]
    assert [one.data_ptr() for one in moved(known, torch.device("cpu"))] == [
        one.data_ptr() for one in known
    ]


def test_all_draws_of_a_step_are_moved() -> None:
    cameras = Orbit(size=16).sample(2, _generator())
    t, noise = torch.tensor([3, 4]), torch.randn(2, 4, 8, 8)
    training = TrainingDraws(torch.rand(1), t, noise, torch.tensor([True, False]))
    drawn = Drawn(cameras, torch.rand(2, 3), t, noise, (training, training))
    there = drawn.to(torch.device("meta"))
    assert there.cameras.viewmats.is_meta
    assert there.cameras.Ks.shape == (2, 3, 3)
    assert (there.cameras.width, there.cameras.height) == (16, 16)
    assert there.noise is not None
    for found, known in [
        (there.background, drawn.background),
        (there.t, t),
        (there.noise, noise),
        *zip(there.training[1], training, strict=True),
    ]:
        assert found.is_meta
        assert (found.shape, found.dtype) == (known.shape, known.dtype)
    assert drawn._replace(noise=None).to(torch.device("meta")).noise is None
