"""The folder of a run with a damaged file is read or refused in one line."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from esd_splat.errors import EsdSplatError
from esd_splat.show.pages import read_run
from tests.damage import check_message, damaged
from tests.runs import make_run


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "summary.json"])
@given(data=st.data())
def test_a_damaged_file(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    file = make_run(tmp_path_factory.mktemp("run") / "run", measures={"faces": 1}) / name
    file.write_bytes(data.draw(damaged(file.read_bytes())))
    _read(file.parent)


def _read(folder: Path) -> None:
    try:
        run = read_run(folder)
    except EsdSplatError as error:
        check_message(error)
    else:
        assert all(map(str.isprintable, (run.prompt, run.method, run.versions, run.progress)))


def test_short_rows_under_a_long_first_one_take_no_time(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    names = ["step", *map(str, range(20_000))]
    (folder / "metrics.csv").write_text(",".join(names) + "\n" + "1,2\n" * 20_000)
    assert len(read_run(folder).metrics) == 20_000


def test_what_a_file_says_is_shown_in_one_printable_line(tmp_path: Path) -> None:
    prompt = r'prompt: "an\nowl \e[31m ' + 1000 * "a" + '"\n'
    run = read_run(make_run(tmp_path / "run", prompt))
    assert run.prompt.startswith(r"an owl \x1b[31m aaa")
    assert len(run.prompt) == 200
