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
"""x264's constant rate factor: 0 is lossless, 23 the default. At 16, of a figurine's turntable of
512 pixels, 999 of 1000 pixels are off by at most 6 of 255 levels of brightness, no block shows even
at 12 times the contrast, and 72 frames take 0.2 MB; at 23 it is 10 levels and 0.1 MB."""
GIF_FPS = 50
"""Most frames a second in a ``.gif``: browsers show faster ones at 10."""


def write_video(frames: Iterable[Tensor], path: Path | str, fps: int = 24) -> None:
    """Write a video, whole or not at all, with the ffmpeg that imageio brings.

    Args:
        frames: RGB pictures ``[3, h, w]`` of one size, or a batch of them; at least one, and taken
            one at a time. What lies outside [0, 1] is clamped.
        path: replaced if it exists. Ends in ``.mp4`` for H.264 in 4:2:0, which has even sizes: the
            last row or column of an odd one is doubled. Ends in ``.gif`` for 256 colours, chosen
            for all frames together; it repeats for ever, and above ``GIF_FPS`` skips frames.
        fps: frames per second.

    Raises:
        OutputError: the file cannot be written, or there is no ffmpeg.
    """
    with atomic_path(path) as temporary:
        _encode(frames, temporary, fps)


def check_video(suffix: str) -> None:
    """Find out now, and not after hours, whether there is what ``write_video`` needs.

    Args:
        suffix: of the files to write, ``.mp4`` or ``.gif``.

    Raises:
        OutputError: there is no ffmpeg, or it lacks the encoder.
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
        # Matrix, primaries and transfer are all named: where one is missing, players guess, and
        # Chromium then decodes by the matrix of BT.601. Only a filter can name the last two.
        named = "setparams=color_primaries=bt709:color_trc=bt709"
        color = ["-vf", f"scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,{named}"]
        tags = ["-colorspace", "bt709", "-color_range", "tv", "-movflags", "+faststart"]
        output = [*codec, *color, *tags]
    size = f"{width + odd[1]}x{height + odd[3]}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(fps), "-i", "pipe:"]
    command = [_ffmpeg(), "-v", "error", "-y", *source, *output, str(path)]
    # Called directly: imageio's own writer does not look whether ffmpeg succeeded. Its errors go to
    # a file, as a full pipe of them would stop it while it is being written to.
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
            pass  # it has failed, and says why
        except BaseException:
            ffmpeg.kill()
            raise
        finally:
            with suppress(BrokenPipeError):  # of what is left in the buffer
                ffmpeg.stdin.close()
        failed = ffmpeg.wait() != 0
        errors.seek(0)
        lines = errors.read().decode(errors="replace").split("\n")
    if failed:
        raise OSError(next((line for line in lines if line.strip()), "ffmpeg failed").strip())


def _ffmpeg() -> str:
    import imageio_ffmpeg  # here, so that importing the package stays light

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise OutputError(
            "no video without ffmpeg; install it with pip install 'imageio[ffmpeg]'"
        ) from error
