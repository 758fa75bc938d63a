"""What a run needs on a GPU, and whether a GPU has that."""

from dataclasses import dataclass

GB = 2**30
CONTEXT = GB // 2
"""What CUDA takes for itself, in bytes: its context and the code of the kernels."""
MORE = 1.10, 1.25
"""Factors of the peak, least and most, for what a prediction leaves out: the workspaces of cuDNN
and cuBLAS, and the fragmentation of the caching allocator."""
FITS, MAY_FIT, NO = "fits", "may fit", "no"


@dataclass(frozen=True)
class Prediction:
    """What a step of a run takes on a GPU, in bytes and floating-point operations."""

    weights: int
    """The teacher's networks on the GPU."""
    on_cpu: int
    """The text encoders, if they stay on the CPU. They are not part of any other number."""
    lora: int
    """The LoRA and its optimizer's moments."""
    scene: int
    """The Gaussians and their optimizer's moments."""
    peak: int
    """The most that is held at any moment of a step."""
    phase: str
    """What the step was doing then."""
    flops: int
    """Floating-point operations of a step, where a multiplication and an addition are two."""
    gaussians: int
    """The number of Gaussians that was assumed, the most that densification allows."""
    joint: bool
    """Whether the network sees all views of a step together."""

    @property
    def activations(self) -> int:
        """What is held at the peak in addition to weights, LoRA and scene."""
        return self.peak - self.weights - self.lora - self.scene

    @property
    def in_all(self) -> tuple[float, float]:
        """The least and the most memory that the device needs, with what is left out, in bytes."""
        low, high = (CONTEXT + factor * self.peak for factor in MORE)
        return low, high

    def verdict(self, size: int) -> str:
        """Return ``FITS``, ``MAY_FIT`` or ``NO``, for a device with ``size`` bytes."""
        low, high = self.in_all
        return FITS if high <= size else MAY_FIT if low <= size else NO
