"""``python -m esd_splat.export``: what it writes, prints and refuses."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from esd_splat.export import main
from esd_splat.formats import EXPORTERS, load_scene, save_ply
from esd_splat.formats.base import Exporter
from esd_splat.formats.comment import load_comment
from esd_splat.scene.gaussians import Gaussians
from tests.formats.scenes import FORMATS, scene


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """500 Gaussians at 0.002, 0.004, ... from the origin. The farther, the more opaque they are."""
    original = scene(500, 3)
    distance = torch.arange(1, 501)[:, None] / 500
    original.means[:] = torch.nn.functional.normalize(original.means, dim=1) * distance
    original.opacity_logits[:] = (0.98 * distance[:, 0]).logit()
    save_ply(original, tmp_path / "in.ply")
    return tmp_path / "in.ply"


@pytest.mark.parametrize("there", sorted(FORMATS))
@pytest.mark.parametrize("back", sorted(FORMATS))
def test_anything_becomes_anything(source: Path, there: str, back: str) -> None:
    middle, end = source.with_name(f"middle.{there}"), source.with_name(f"end.{back}")
    assert main([str(source), str(middle)]) == 0
    assert main([str(middle), str(end)]) == 0
    assert len(load_scene(end)) == 500
    assert {path.name for path in source.parent.iterdir()} == {"in.ply", middle.name, end.name}


def test_the_summary(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = source.with_name("out.splat")
    options = ["--crop", "0.8", "--min-opacity", "0.196", "--max-gaussians", "250"]
    assert main([str(source), str(target), *options]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert lines[:6] == [
        f"wrote {target}: 250 Gaussians, 8000 bytes",
        f"from {source}: 500 Gaussians, {source.stat().st_size} bytes",
        "removed 100 by --crop 0.8",
        "removed 99 by --min-opacity 0.196",
        "removed 51 by --max-gaussians 250",
        "SH degree reduced from 1 to 0 by .splat: colours change less with the view",
    ]
    assert lines[6] == "read-back error         mean   largest"
    names = [line.split("  ")[1] for line in lines[7:]]
    assert names == ["positions", "colours", "opacities", "scales", "rotations"]
    mean, largest = map(float, re.findall(r"[\d.e-]+", lines[8])[:2])
    assert 0 < mean < largest <= 1 / 255 + 1e-4


def test_ply_to_ply_is_exact(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(source), str(source.with_name("out.ply"))]) == 0
    assert source.with_name("out.ply").read_bytes() == source.read_bytes()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + 6
    for line in lines[3:]:
        assert re.split(r"  +", line.strip())[1:3] == ["0", "0"]


@pytest.mark.parametrize("middle", ["in.ply", "in.sog", "in.spz"])
def test_a_page_is_titled_as_the_file_says(source: Path, middle: str) -> None:
    """If the format stores comments. Measures are dropped when Gaussians are removed."""
    save_ply(load_scene(source), source, "a red owl\nMI 1.73 nats")
    file, page = source.with_name(middle), source.with_name("owl.html")
    if file != source:
        assert main([str(source), str(file)]) == 0

    def captioned(*options: str) -> tuple[str, str]:
        assert main([str(file), str(page), "--overwrite", *options]) == 0
        html = page.read_text(encoding="utf-8")
        return html.split("<h1")[1].split("</h1>")[0].split(">")[1], html.split("</h1>")[1]

    said = middle != "in.spz"
    title, numbers = captioned()
    assert title == ("a red owl" if said else "Gaussian splat")
    assert ("MI 1.73 nats" in numbers) == said
    title, numbers = captioned("--crop", "0.5")
    assert title == ("a red owl" if said else "Gaussian splat")
    assert "MI" not in numbers.split("</p>")[0]
    assert captioned("--comment", "ein Käuzchen")[0] == "ein Käuzchen"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ply", b"ply\ncomment made by some tool\nelement vertex 1\nend_header\n"),
        ("a.ply", b"ply\nelement vertex 1\nend_header\ncomment of data"),
        ("a.sog", b'{"asset": {"generator": "splat-transform", "comment": "x"}}'),
        ("a.sog", b'{"version": 2}'),
    ],
)
def test_what_other_programs_say_is_no_title(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    if file.suffix == ".sog":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("meta.json", content)
    else:
        file.write_bytes(content)
    assert load_comment(file) == ""


def test_order_and_values_of_what_stays_do_not_change(source: Path) -> None:
    target = source.with_name("out.ply")
    assert main([str(source), str(target), "--crop", "0.5", "--max-gaussians", "100"]) == 0
    before, after = load_scene(source), load_scene(target)
    rows = [int((before.means == mean).all(dim=1).nonzero()) for mean in after.means]
    assert rows == sorted(rows)
    assert rows[-1] < 250
    for name, value in vars(before).items():
        assert torch.equal(getattr(after, name), value[rows])


def test_more_than_there_are_may_stay(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(source), str(source.with_name("out.ply")), "--max-gaussians", "500"]) == 0
    assert "removed" not in capsys.readouterr().out


def test_padding_with_zeros(source: Path) -> None:
    target = source.with_name("out.ply")
    assert main([str(source), str(target), "--pad-sh"]) == 0
    before, after = load_scene(source), load_scene(target)
    assert (before.sh_degree, after.sh_degree) == (1, 3)
    assert torch.equal(after.shN[:, :3], before.shN)
    assert not after.shN[:, 3:].any()


def test_a_format_without_a_reader(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Page(Exporter):
        suffix = ".page"

        def encode(self, scene: Gaussians, comment: str = "") -> bytes:
            return b"<html>"

    monkeypatch.setitem(EXPORTERS, "page", Page)
    assert main([str(source), str(source.with_name("out.page"))]) == 0
    assert capsys.readouterr().out.endswith("precision unknown, as .page cannot be read back\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.ply", "out.sgo"], r"out\.sgo: \.sgo is not one of .*; did you mean \.sog\?"),
        (["in.ply", "out"], r"out: an empty suffix is not one of \.compressed\.ply, .*\.ply, "),
        (["none.ply", "out.sog"], r"none\.ply: cannot be read \(No such file or directory\)"),
        (["none.plx", "out.sog"], r"none\.plx: \.plx is not one of .*; did you mean \.ply\?"),
        (["text.ply", "out.sog"], r"text\.ply: not a \.ply file, or cut short"),
        (["in.ply", "in.ply"], r"in\.ply: is the file to convert; choose another name"),
        (["in.ply", "link.ply", "--overwrite"], r"link\.ply: is the file to convert"),
        (["in.ply", "old.spz"], r"old\.spz: already exists; use --overwrite to replace it"),
        (["in.ply", "folder.spz", "--overwrite"], r"folder\.spz: cannot be written"),
        (["in.ply", "text.ply/out.spz"], r"text\.ply/out\.spz: cannot be written"),
        (["in.ply", f"{'x' * 300}.spz"], r"\.spz: cannot be written \(File name too long\)"),
        (
            ["in.ply", "out.spz", "--crop", "0.001"],
            r"--crop 0\.001 leaves none of 500 Gaussians; the closest to the origin is at 0\.002",
        ),
        (
            ["in.ply", "out.spz", "--min-opacity", "0.99"],
            r"--min-opacity 0\.99 leaves none of 500 Gaussians; the most opaque has 0\.98",
        ),
        (["in.ply", "out.spz", "--crop", "0"], r"--crop: must be above 0, got 0"),
        (["in.ply", "out.spz", "--crop", "nan"], r"--crop: must be above 0, got nan"),
        (["in.ply", "out.spz", "--min-opacity", "2"], r"--min-opacity: must be in \[0, 1\], got 2"),
        (["in.ply", "out.spz", "--max-gaussians", "0"], r"--max-gaussians: must be at least 1"),
        (["in.ply", "out.spz", "--max-gaussians", "x"], r"invalid int value: 'x'; see python -m"),
        (["in.ply", "out.spz", "--pad-sh"], r"--pad-sh: is for \.ply only, but .* a \.spz file"),
        (["in.ply", "out.compressed.ply", "--pad-sh"], r"--pad-sh: .* a \.compressed\.ply file"),
        (["in.ply"], r"the following arguments are required: OUT; see python -m esd_splat\.export"),
        (["in.ply", "out.spz", "--croop", "1"], r"unrecognized arguments: --croop 1"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    source: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    folder = source.parent
    monkeypatch.chdir(folder)
    (folder / "text.ply").write_text("no ply")
    (folder / "old.spz").write_text("old")
    (folder / "link.ply").hardlink_to(source)
    (folder / "folder.spz").mkdir()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(rf"esd_splat: .*{message}.*\n", captured.err), captured.err
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_an_existing_file_is_replaced_when_asked(source: Path) -> None:
    target = source.with_name("old.spz")
    target.write_text("old")
    assert main([str(source), str(target), "--overwrite"]) == 0
    assert len(load_scene(target)) == 500


def test_as_a_command(source: Path) -> None:
    command = [sys.executable, "-m", "esd_splat.export", str(source), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"esd_splat: {source}: is the file to convert")
