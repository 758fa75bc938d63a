"""Tests without a mark do not see the GPUs of the machine, nor do the programs that they start."""

import os

import pytest
import torch


def test_a_gpu_is_hidden_from_tests_that_are_not_marked_for_it() -> None:
    assert not torch.cuda.is_available()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.gpu
def test_a_gpu_is_there_for_tests_that_are() -> None:
    assert torch.cuda.is_available()
