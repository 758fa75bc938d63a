"""Frames as an ``.mp4`` that browsers play."""

import subprocess
from pathlib import Path

import torch

from esd_splat.errors import OutputError
from esd_splat.export.images import to_bytes
from esd_splat.files import atomic_path
from esd_splat.types import Images

QUALITY_CRF = 16
"""x264's constant rate factor: 0 is lossless, 23 the default; at 16 the loss is hard to see."""


def write_video(frames: Images, path: Path | str, fps: int = 24) -> None:
    """Write H.264 in 4:2:0, whole or not at all, with the ffmpeg that imageio brings.

    That format has even sizes: the last row or column of an odd one is doubled.

    Args:
        frames: RGB; what lies outside [0, 1] is clamped. At least one.
        path: ends in ``.mp4``; replaced if it exists.
        fps: frames per second.

    Raises:
        OutputError: the file cannot be written, or there is no ffmpeg.
    """
    height, width = frames.shape[2:]
    even = torch.nn.functional.pad(
        frames.detach().float(), (0, width % 2, 0, height % 2), mode="replicate"
    )
    size = f"{even.shape[3]}x{even.shape[2]}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(fps), "-i", "pipe:"]
    # The matrix is named, as players guess differently from the size when it is not.
    codec = ["-c:v", "libx264", "-crf", str(QUALITY_CRF), "-threads", "1"]
    color = ["-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"]
    tags = ["-colorspace", "bt709", "-color_range", "tv", "-movflags", "+faststart"]
    with atomic_path(path) as temporary:
        # Called directly: imageio's own writer does not look whether ffmpeg succeeded.
        command = [_ffmpeg(path), "-v", "error", "-y", *source, *codec, *color, *tags]
        done = subprocess.run(
            [*command, str(temporary)], input=to_bytes(even).tobytes(), capture_output=True
        )
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").split("\n")
            raise OSError(next((line for line in lines if line.strip()), "ffmpeg failed").strip())


def _ffmpeg(path: Path | str) -> str:
    import imageio_ffmpeg  # here, so that importing the package stays light

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise OutputError(
            f"{path}: no video without ffmpeg; install it with pip install 'imageio[ffmpeg]'"
        ) from error
