import itertools
import subprocess
import weakref
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
import torch

from esd_splat.errors import OutputError
from esd_splat.show.contact_sheet import GAP, contact_sheet
from esd_splat.show.images import png_to_webp, to_webp, write_png
from esd_splat.show.video import check_video, write_video


def test_a_png_holds_each_level_exactly(tmp_path: Path) -> None:
    levels = torch.arange(256).view(16, 16)
    image = torch.stack([levels, levels.flip(0), levels.T]) / 255
    write_png(image, tmp_path / "a.png")
    back = imageio.imread(tmp_path / "a.png")
    assert np.array_equal(back, (image * 255).round().permute(1, 2, 0).numpy())


def test_a_png_rounds_to_nearest_and_clamps(tmp_path: Path) -> None:
    values = torch.tensor([-0.5, 0.4 / 255, 0.6 / 255, 7.4 / 255, 2.0])
    write_png(values.view(1, 1, 5).expand(3, 1, 5), tmp_path / "a.png")
    assert imageio.imread(tmp_path / "a.png")[0, :, 0].tolist() == [0, 0, 1, 7, 255]


def test_a_contact_sheet_reads_like_a_page() -> None:
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 4, 6) / 5
    sheet = contact_sheet([images[:3], images[3:]])
    assert sheet.shape == (3, 2 * 4 + GAP, 3 * 6 + 2 * GAP)
    corners = sheet[0, :: 4 + GAP, :: 6 + GAP]
    torch.testing.assert_close(corners, torch.tensor([[0, 0.2, 0.4], [0.6, 0.8, 1.0]]))
    assert (sheet[:, 4 : 4 + GAP] == 1).all()
    assert torch.equal(sheet[:, :4, :6], images[0])


def test_webp_keeps_a_picture_but_for_a_little(tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64) * torch.tensor([1, 0.5, 0.2])[:, None, None]
    (data,) = to_webp(ramp[None], quality=90)
    assert np.abs(imageio.imread(data) / 255 - ramp.permute(1, 2, 0).numpy()).max() < 0.05
    write_png(ramp, tmp_path / "ramp.png")
    assert imageio.imread(png_to_webp(tmp_path / "ramp.png", (640, 640), 90)).shape == (64, 64, 3)
    assert imageio.imread(png_to_webp(tmp_path / "ramp.png", (640, 16), 90)).shape == (16, 16, 3)


@pytest.mark.parametrize("keep", [0, 5, 40, 120])
def test_a_broken_png_is_an_os_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.png"
    write_png(torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0)), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(OSError, match=r"."):
        png_to_webp(path, (100, 100), 90)


def test_smaller_pictures_stand_enlarged_in_the_middle_of_their_columns() -> None:
    """By a whole number, up to half of the column: here twice, as three times is more."""
    generator = torch.Generator().manual_seed(0)
    small, large = (torch.rand(2, 3, s, s, generator=generator) for s in (8, 40))
    sheet = contact_sheet([small, large])
    assert sheet.shape == (3, 16 + GAP + 40, 40 + GAP + 40)
    assert torch.equal(sheet[:, -40:, -40:], large[1])
    for column, image in enumerate(small):
        left = column * (40 + GAP) + (40 - 16) // 2
        for offset in (0, 1):
            shown = sheet[:, offset:16:2, left + offset : left + 16 : 2]
            assert torch.equal(shown, image)
        assert (sheet[:, :16, left - 12 : left] == 1).all()
        assert (sheet[:, :16, left + 16 : left + 28] == 1).all()


def test_labels_stand_beside_the_pictures_and_leave_them_alone() -> None:
    images = torch.rand(6, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    rows = images.split(3)
    plain = contact_sheet(rows)
    sheet = contact_sheet(rows, across=["0°", "120°", "240°"], down=["step 9", "10"])
    top, left = sheet.shape[1] - plain.shape[1], sheet.shape[2] - plain.shape[2]
    assert torch.equal(sheet[:, top:, left:], plain)
    ink = 1 - sheet[0]
    above = [ink[:top, left + x : left + x + 40].sum() for x in (0, 40 + GAP, 2 * (40 + GAP))]
    assert 0 < above[0] < above[1], "the shortest label has the least ink"
    assert above[2] > above[0]
    first, second = ink[top : top + 32, :left].sum(), ink[top + 32 + GAP :, :left].sum()
    assert 0 < second < first
    assert (ink[:top, :left] == 0).all()


@pytest.mark.parametrize("size", [(64, 64), (33, 50), (1, 1)])
def test_a_video_shows_the_frames_in_their_colours(tmp_path: Path, size: tuple[int, int]) -> None:
    """Flat frames, as 4:2:0 keeps those; each within three levels of 255."""
    colors = torch.tensor([[1.0, 0, 0], [0, 0.8, 0.1], [0.2, 0.2, 0.9], [1, 1, 1], [0, 0, 0]])
    path = tmp_path / "turn.mp4"
    write_video(colors[:, :, None, None].expand(5, 3, *size), path, fps=10)
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert (frames, seconds) == (5, 0.5)
    decoder = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    raw = subprocess.run(
        [*decoder, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    )
    even = [s + s % 2 for s in size]
    pixels = np.frombuffer(raw.stdout, np.uint8).reshape(5, *even, 3)
    expected = (255 * colors).numpy()[:, None, None]
    assert np.abs(pixels - expected).max() <= 3
    assert list(tmp_path.iterdir()) == [path]


def test_frames_are_taken_one_at_a_time_and_an_error_among_them_leaves_nothing(
    tmp_path: Path,
) -> None:
    def frames(last: int) -> Iterator[torch.Tensor]:
        alive: list[weakref.ref[torch.Tensor]] = []
        for index in range(20):
            if index == last:
                raise ValueError("cannot be drawn")
            assert sum(ref() is not None for ref in alive) <= 2
            frame = torch.full((3, 8, 8), index / 20)
            alive.append(weakref.ref(frame))
            yield frame

    path = tmp_path / "turn.mp4"
    write_video(frames(20), path)
    assert imageio_ffmpeg.count_frames_and_secs(str(path))[0] == 20
    path.unlink()
    with pytest.raises(ValueError, match="cannot be drawn"):
        write_video(frames(10), path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("fps", "count", "seconds"), [(10, 5, 0.1), (100, 3, 0.02)])
def test_a_gif_turns_for_ever_in_the_same_time(
    tmp_path: Path, fps: int, count: int, seconds: float
) -> None:
    """At 100 frames a second every other one is left out, as browsers would slow it down."""
    colors = torch.tensor([[1.0, 0, 0], [0, 0.8, 0.1], [0.2, 0.2, 0.9], [1, 1, 1], [0, 0, 0]])
    path = tmp_path / "turn.gif"
    write_video(colors[:, :, None, None].expand(5, 3, 33, 50), path, fps)
    frames = imageio.imread(path, index=None)
    assert frames.shape == (count, 33, 50, 3)
    kept = (255 * colors).numpy()[:, None, None][:: 5 // count + (count < 5)]
    assert np.abs(frames - kept).max() <= 8
    about = imageio.immeta(path, index=0)
    assert about["duration"] == pytest.approx(1000 * seconds)
    assert about["loop"] == 0, "for ever"


def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for write, name in ((write_video, "a.mp4"), (write_png, "a.png")):
        pixels = torch.zeros(2, 3, 8, 8) if write is write_video else torch.zeros(3, 8, 8)
        with pytest.raises(OutputError, match=f"{name}: cannot be written") as error:
            write(pixels, tmp_path / "file" / name)
        assert "\n" not in str(error.value)


def test_a_failing_ffmpeg_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "ffmpeg"
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(broken))
    many_or_large = torch.zeros(400, 3, 16, 16), torch.zeros(9, 3, 256, 256)
    for reads, frames in itertools.product(("cat >/dev/null", ":"), many_or_large):
        broken.write_text(f"#!/bin/sh\n{reads}\necho 'No space left on device' >&2\nexit 1\n")
        broken.chmod(0o755)
        with pytest.raises(OutputError, match=r"\(No space left on device\)"):
            write_video(frames, tmp_path / "a.mp4")
        assert list(tmp_path.iterdir()) == [broken]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_whether_a_video_can_be_made_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    check_video(suffix)
    lacking = tmp_path / "ffmpeg"
    lacking.write_text(
        "#!/bin/sh\ncat >/dev/null\necho \"Unknown encoder 'libx264'\" >&2\nexit 1\n"
    )
    lacking.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(lacking))
    with pytest.raises(OutputError, match=rf"^ffmpeg makes no {suffix} \(Unknown encoder"):
        check_video(suffix)


def test_a_missing_ffmpeg_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(OutputError, match=r"pip install 'imageio\[ffmpeg\]'"):
        write_video(torch.zeros(2, 3, 8, 8), tmp_path / "a.mp4")
