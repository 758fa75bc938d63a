"""A damaged config, whatever the damage, is read or refused by this package's own error."""

from pathlib import Path

import hypothesis.strategies as st
from hypothesis import example, given

from esd_splat import load_config
from esd_splat.config_files import shipped_configs
from esd_splat.errors import ConfigError
from esd_splat.settings import read_flat
from tests.damage import check_message, damaged

WHOLE = {name: path.read_bytes() for name, path in sorted(shipped_configs().items())}


def _read(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        load_config(path, ["prompt=a red owl"])
    except ConfigError as error:
        check_message(error)
    try:
        read_flat(content.decode("utf-8", "replace"), path.name)
    except ConfigError as error:
        check_message(error)


@given(data=st.data())
def test_a_damaged_config(tmp_path_factory, data: st.DataObject) -> None:
    whole = WHOLE[data.draw(st.sampled_from(sorted(WHOLE)))]
    _read(tmp_path_factory.mktemp("config") / "run.yaml", data.draw(damaged(whole)))


@given(text=st.text(max_size=200))
@example("prompt: !!set {a}")
@example("? {a: b}\n: c")
@example("<<: [a]")
@example("!!set {a}")
@example("~: a")
@example("!!omap [a: b]")
def test_a_config_of_anything(tmp_path_factory, text: str) -> None:
    _read(tmp_path_factory.mktemp("config") / "run.yaml", text.encode("utf-8", "surrogatepass"))
