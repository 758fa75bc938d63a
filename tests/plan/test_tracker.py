"""The tracker against cases that can be counted by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from esd_splat.plan.operators import as_on_gpu
from esd_splat.plan.tracker import BLOCK, Tracker

META = torch.device("meta")
BF16 = torch.bfloat16


def test_a_storage_counts_once_and_until_its_last_view_is_gone() -> None:
    with Tracker() as tracker:
        a = torch.empty(256, 256, device=META)
        view = a[:10].T
        assert tracker.live == 4 * 256 * 256
        b = torch.empty(1, device=META)
        assert tracker.live == 4 * 256 * 256 + BLOCK
        del a, b
        assert tracker.live == 4 * 256 * 256
        del view
        assert tracker.live == 0
        assert tracker.peak == 4 * 256 * 256 + BLOCK


def test_only_the_device_counts() -> None:
    with Tracker() as tracker:
        kept = torch.ones(1000), torch.ones(1000) @ torch.ones(1000, 1000)
        assert (tracker.live, tracker.peak, tracker.flops) == (0, 0, 0)
    with Tracker("cpu") as tracker:
        kept = torch.ones(1000)  # noqa: F841
        assert tracker.live == 4096


def test_what_backward_keeps_of_a_chain() -> None:
    """Each sigmoid keeps its output. At the peak there are three gradients, with the first one."""
    size, depth = 4 * 1024, 5
    with Tracker() as tracker:
        x = torch.empty(1024, device=META, requires_grad=True)
        y = x
        for _ in range(depth):
            y = y.sigmoid()
        assert tracker.live == (1 + depth) * size
        with as_on_gpu(tracker):
            y.backward(torch.empty(1024, device=META))
        assert tracker.peak == (1 + depth + 3) * size
        assert tracker.peak_phase == "backward"
        del y
        assert tracker.live == 2 * size  # x and its gradient


def test_flops_of_a_matrix_product_and_its_backward() -> None:
    with Tracker() as tracker:
        a = torch.empty(3, 5, device=META, requires_grad=True)
        b = torch.empty(5, 7, device=META, requires_grad=True)
        product = a @ b
        assert tracker.flops == 2 * 3 * 5 * 7
        product.sum().backward()
        assert tracker.flops == 3 * 2 * 3 * 5 * 7


def test_values_are_answered_and_masks_select_everything() -> None:
    with Tracker(integer=3):
        x = torch.empty(4, 5, device=META)
        assert x.sum().item() == 0.5
        assert (x > 0).any()
        assert x.int().sum().item() == 3
        assert x.flatten().int().tolist() == [3] * 20
        assert x.cpu().tolist() == [[0.5] * 5] * 4
        assert x[x > 0].shape == (20,)
        assert x[x[:, 0] > 0].shape == (4, 5)
        assert x[:, x[0] > 0].shape == (4, 5)
        assert (x > 0).nonzero().shape == (20, 2)
        assert torch.ones(2).sum().item() == 2  # the CPU has its own values


@pytest.mark.parametrize(
    ("dtype", "width", "logsumexp"), [(BF16, 64, 4), (BF16, 20, 4), (torch.float32, 64, 4)]
)
def test_attention_does_not_hold_its_weights(
    dtype: torch.dtype, width: int, logsumexp: int
) -> None:
    """It keeps its inputs, its output, and a float for each row and head."""
    rows, heads = 4096, 2
    weights = heads * rows * rows * dtype.itemsize
    with Tracker() as tracker:
        x = torch.empty(1, heads, rows, width, device=META, dtype=dtype, requires_grad=True)
        with as_on_gpu(tracker):
            out = F.scaled_dot_product_attention(x, x, x)
            assert out.shape == x.shape
            out.backward(torch.empty_like(out))
        assert x.grad is not None
        assert tracker.peak < 0.2 * weights
        alone = 2 * 2 * heads * rows * rows * (width + -width % 8)
        assert tracker.flops == pytest.approx(3.5 * alone)
    with Tracker() as tracker:
        F.scaled_dot_product_attention(x, x, x)
        assert tracker.peak > weights


class _Deep(nn.Module):
    """Attention after attention, with or without checkpointing."""

    def __init__(self, saves: bool) -> None:
        super().__init__()
        self.saves = saves

    def forward(self, x: Tensor) -> Tensor:
        def block(x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x.sin(), x.cos(), x).relu()

        for _ in range(4):
            x = checkpoint(block, x, use_reentrant=False) if self.saves else block(x)
        return x


def test_checkpointing_computes_again_what_it_did_not_keep() -> None:
    found = {}
    for saves in (False, True):
        with Tracker() as tracker, as_on_gpu(tracker):
            x = torch.empty(1, 2, 1024, 64, device=META, dtype=BF16, requires_grad=True)
            _Deep(saves)(x).sum().backward()
            found[saves] = tracker
    assert found[True].peak < 0.7 * found[False].peak
    forward = 4 * 2 * 2 * 2 * 1024 * 1024 * 64
    assert found[True].flops - found[False].flops == forward


def test_phases_nest() -> None:
    with Tracker() as tracker:
        call = tracker.phased("inner", lambda: torch.empty(100, device=META))
        with tracker.phase("outer"):
            call()
        assert tracker.peak_phase == "outer, inner"
        tracker.restart()
        assert (tracker.peak, tracker.peak_phase) == (tracker.live, "")
