"""The recent views: which are kept, which are drawn, and what a checkpoint holds of them."""

import torch

from esd_splat.distill.recent import Recent


def _views(first: int, step: int, count: int = 2) -> Recent:
    latents = torch.arange(float(first), first + count).view(count, 1, 1, 1)
    return Recent.of(latents, latents[:, 0] * torch.eye(4), step)


def _six() -> Recent:
    views = _views(0, 0)
    for step in (1, 2):
        views = views.join(_views(2 * step, step), 99)
    return views


def test_the_oldest_views_leave_with_their_cameras_and_steps() -> None:
    views = _six()[:4].join(_views(4, 2), 3)
    assert views.latents.flatten().tolist() == [3, 4, 5]
    assert views.c2w[:, 0, 0].tolist() == [3, 4, 5]
    assert views.steps.tolist() == [1, 2, 2]


def test_views_are_drawn_with_their_cameras() -> None:
    drawn = _six().chosen(torch.linspace(0, 1 - 1e-7, 200), 1)
    assert set(drawn.latents.flatten().tolist()) == set(range(6))
    assert torch.equal(drawn.c2w[:, 0, 0], drawn.latents.flatten())
    assert torch.equal(drawn.steps, drawn.latents.flatten().long() // 2)


def test_the_views_of_a_step_are_drawn_together() -> None:
    """One view of the oldest step has left, so that step cannot be drawn any more."""
    drawn = _six()[1:].chosen(torch.linspace(0, 1 - 1e-7, 100), 2)
    pairs = drawn.latents.view(-1, 2)
    assert torch.equal(pairs[:, 1], pairs[:, 0] + 1)
    assert set(pairs[:, 0].tolist()) == {2, 4}


def test_a_checkpoint_holds_them_and_an_older_one_only_the_latents() -> None:
    cpu, views = torch.device("cpu"), _six()
    restored = Recent.restored(views.state(), cpu)
    assert restored is not None
    for found, known in zip(vars(restored).values(), vars(views).values(), strict=True):
        assert torch.equal(found, known)
    older = Recent.restored(views.latents, cpu)
    assert older is not None
    assert torch.equal(older.latents, views.latents)
    assert Recent.restored(None, cpu) is None
