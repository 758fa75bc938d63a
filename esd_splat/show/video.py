"""Frames as an ``.mp4`` or ``.gif`` that browsers play."""

import itertools
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from esd_splat.errors import OutputError
from esd_splat.files import atomic_path
from esd_splat.show.images import to_bytes

QUALITY_CRF = 16
"""x264's constant rate factor: 0 is lossless, 23 the default. In a figurine's turntable of 512
pixels at 16, 999 of 1000 pixels are off by at most 6 of 255 levels of brightness, no block is
visible even at 12 times the contrast, and 72 frames take 0.2 MB. At 23, it is 10 levels and
0.1 MB."""
GIF_FPS = 50
"""Maximum frames per second of a ``.gif``. Browsers play faster ones at 10."""


def write_video(frames: Iterable[Tensor], path: Path | str, fps: int = 24) -> None:
    """Write a video atomically, with the ffmpeg that comes with imageio.

    Args:
        frames: At least one RGB picture ``[3, h, w]``, all of one size, or a batch of them. They
            are consumed one at a time and clamped to [0, 1].
        path: File to write. An existing file is replaced. The suffix ``.mp4`` gives H.264 in 4:2:0,
            which requires even sizes: the last row or column of an odd size is repeated. The suffix
            ``.gif`` gives 256 colours, chosen for all frames together. It loops forever, and skips
            frames above ``GIF_FPS``.
        fps: Frames per second.

    Raises:
        OutputError: If the file cannot be written or there is no ffmpeg.
    """
    with atomic_path(path) as temporary:
        _encode(frames, temporary, fps)


def check_video(suffix: str) -> None:
    """Check before a long run that ``write_video`` will find what it needs.

    Args:
        suffix: Suffix of the file to write, ``.mp4`` or ``.gif``.

    Raises:
        OutputError: If there is no ffmpeg, or it lacks the encoder.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            _encode(torch.zeros(1, 3, 16, 16), Path(folder) / f"black{suffix}", fps=24)
        except OSError as error:
            raise OutputError(f"ffmpeg makes no {suffix} ({error})") from error


def _encode(frames: Iterable[Tensor], path: Path, fps: int) -> None:
    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[1:]
    odd = (0, 0, 0, 0)
    if path.suffix == ".gif":
        output = [
            "-filter_complex",
            f"fps={min(fps, GIF_FPS)},split[a][b];[a]palettegen[p];[b][p]paletteuse",
        ]
    else:
        odd = (0, width % 2, 0, height % 2)
        codec = ["-c:v", "libx264", "-crf", str(QUALITY_CRF), "-threads", "1"]
        # Name matrix, primaries and transfer. If one is missing, players guess, and Chromium then
        # decodes with the BT.601 matrix. Only a filter can name the last two.
        named = "setparams=color_primaries=bt709:color_trc=bt709"
        color = ["-vf", f"scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,{named}"]
        tags = ["-colorspace", "bt709", "-color_range", "tv", "-movflags", "+faststart"]
        output = [*codec, *color, *tags]
    size = f"{width + odd[1]}x{height + odd[3]}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(fps), "-i", "pipe:"]
    command = [_ffmpeg(), "-v", "error", "-y", *source, *output, str(path)]
    # ffmpeg is called directly because imageio's writer does not check whether it succeeded. Its
    # errors go to a file: if they filled a pipe, ffmpeg would stop reading its input.
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors) as ffmpeg,
    ):
        assert ffmpeg.stdin is not None
        try:
            for frame in itertools.chain([first], frames):
                whole = torch.nn.functional.pad(frame.detach().float()[None], odd, mode="replicate")
                ffmpeg.stdin.write(to_bytes(whole).tobytes())
        except BrokenPipeError:
            pass  # ffmpeg has failed, and its errors say why
        except BaseException:
            ffmpeg.kill()
            raise
        finally:
            with suppress(BrokenPipeError):  # closing flushes the buffer
                ffmpeg.stdin.close()
        failed = ffmpeg.wait() != 0
        errors.seek(0)
        lines = errors.read().decode(errors="replace").split("\n")
    if failed:
        raise OSError(next((line for line in lines if line.strip()), "ffmpeg failed").strip())


def _ffmpeg() -> str:
    import imageio_ffmpeg  # here, to keep the import of the package fast

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise OutputError(
            "no video without ffmpeg; install it with pip install 'imageio[ffmpeg]'"
        ) from error
