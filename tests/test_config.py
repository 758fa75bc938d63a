"""The config as a whole: its keys, its shipped files, its defaults and its checks."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from esd_splat.config import Config, Export, Log, load_config
from esd_splat.config_files import find_config, schema, shipped_configs
from esd_splat.distill.lora import Lora
from esd_splat.distill.losses import Esd, Sds, Vsd
from esd_splat.distill.predictions import LORA_INPUTS
from esd_splat.errors import ConfigError
from esd_splat.formats import EXPORTERS
from esd_splat.scene.cameras import Orbit
from esd_splat.scene.densify import NoDensify
from esd_splat.settings import help_text, keys_of, load, to_yaml
from esd_splat.settings.schema import json_schema

ROOT = Path(__file__).parent.parent
RUN = r"(\S*python3? -m esd_splat\.fit|esd-splat fit)\b"
SHIPPED = ["esd", "esd_paper", "esd_pool", "esd_sd", "mvdream", "sds", "threestudio", "vsd"]


def problems(*overrides: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["prompt=a red owl", *overrides])
    return {p.key: p.message for p in caught.value.problems}


def readme_commands() -> list[str]:
    """The lines of README.md that start a run, except for those with placeholders."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    lines = [line.strip().removeprefix("$ ") for line in text.replace("\\\n", " ").splitlines()]
    commands = [line for line in lines if re.match(RUN, line)]
    return [line for line in commands if "[" not in line]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_load(name: str) -> None:
    config = load_config(name, ["prompt=a red owl"])
    assert isinstance(config, Config)
    assert config == load_config(ROOT / "configs" / f"{name}.yaml", ["prompt=a red owl"])
    assert config == load(Config, to_yaml(config))


def test_every_file_in_configs_is_shipped() -> None:
    assert sorted(shipped_configs()) == SHIPPED


def test_shipped_configs_are_what_they_are_called() -> None:
    losses = {name: load_config(name, ["prompt=a"]).loss for name in SHIPPED}
    assert isinstance(losses["esd"], Esd)
    assert losses["mvdream"] == losses["esd_sd"] == losses["esd"]
    assert losses["esd"] == Esd(entropy_weight=0.5, marginal="pool")
    assert losses["esd_paper"] == losses["threestudio"] == Esd(entropy_weight=0.5)
    assert losses["esd_pool"] == Esd(entropy_weight=1, marginal="pool", camera="noise")
    assert losses["sds"] == Sds()
    assert losses["vsd"] == Vsd()


@pytest.mark.parametrize("name", ["esd_paper", "esd_pool", "sds", "vsd"])
def test_the_configs_of_the_embedded_teacher_differ_in_their_loss_and_lora(name: str) -> None:
    """Where a LoRA is trained, it is trained alike, or a comparison would not be fair."""
    config, esd = (load_config(one, ["prompt=a"]) for one in (name, "esd"))
    assert dataclasses.replace(config, loss=esd.loss, lora=esd.lora) == esd
    dropout = 0.5 if name == "esd_paper" else esd.lora.camera_dropout
    trained = not config.loss.needs.isdisjoint(LORA_INPUTS)
    known = dataclasses.replace(esd.lora, camera_dropout=dropout) if trained else Lora()
    assert config.lora == known


@pytest.mark.parametrize("command", readme_commands())
def test_readme_commands_parse(command: str) -> None:
    words = shlex.split(command, comments=True)
    path = words[words.index("--config") + 1] if "--config" in words else None
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    if overrides:
        load_config(path, overrides)


def test_the_keys_that_others_rely_on() -> None:
    top = (
        "prompt negative_prompt seed steps batch out resume overwrite checkpoint_every view "
        "view_port device precision backend background loss teacher lora pool clamp image_loss "
        "timesteps cameras optim regularise densify init measure log export memory latent_warmup"
    )
    keys = list(keys_of(json_schema(Config)))
    assert set(top.split()) | {"version"} == {key.path.split(".")[0] for key in keys}
    for path in ("loss.name", "loss.entropy_weight", "teacher.guidance_scale", "cameras.size"):
        assert path in {key.path for key in keys}


def test_every_key_is_explained() -> None:
    keys = list(keys_of(schema()))
    unexplained = [key.path for key in keys if not key.node.get("description")]
    assert not unexplained
    text = help_text(schema())
    for key in keys:
        assert f"  {key.path}  (" in text


def test_the_committed_schema_is_that_of_the_code() -> None:
    """``python -m esd_splat.fit --print-schema > configs/schema.json`` writes it."""
    assert json_schema(Config) == json.loads((ROOT / "configs" / "schema.json").read_text())


def test_the_translation_of_the_papers_command() -> None:
    config = load_config("esd_paper", ["prompt=a", "loss.guidance_scale_lora=0.25"])
    assert config.loss == Esd(entropy_weight=0.75)


def test_older_names_still_work() -> None:
    config = load_config("esd_paper", ["prompt=a", "particle.rank=3", "loss.camera=particle"])
    assert config == load_config("esd_paper", ["prompt=a", "lora.rank=3"])
    assert problems("particle.rank=3", "lora.rank=4") == {
        "lora": "says the same as particle; give only one of them"
    }
    assert problems("particle.rank=0") == {"particle.rank": "must be at least 1, got 0"}


def test_a_pool_holds_a_whole_batch_where_it_is_asked_for() -> None:
    keys = ["prompt=a", "batch=8", "pool.views=4"]
    assert load_config("sds", keys).pool.views == 4
    for pooled in (["esd"], ["vsd", "lora.replay=1"], ["vsd", "lora.base=pool"]):
        with pytest.raises(ConfigError, match=r"batch: must be at most pool\.views, 4, got 8"):
            load_config(pooled[0], [*keys, *pooled[1:]])
    assert load_config("sds", [*keys, "lora.replay=1"]).lora.uses_recent


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (["loss=vsd", "lora.camera_dropout=1"], "below 1"),
        (["loss=esd", "lora.camera_dropout=0"], "above 0"),
    ],
    ids=["vsd", "esd"],
)
def test_a_lora_is_trained_on_all_that_is_asked_of_it(keys: list[str], what: str) -> None:
    with pytest.raises(ConfigError, match=rf"lora\.camera_dropout: must be {what} .* got "):
        load_config(None, ["prompt=a", *keys])


@pytest.mark.parametrize(
    "keys",
    [
        ["loss=vsd", "lora.camera_dropout=0"],
        ["loss={name: esd, entropy_weight: 1}", "lora.camera_dropout=1"],
        ["loss=sds", "lora.camera_dropout=1"],
    ],
    ids=["vsd", "esd", "sds"],
)
def test_what_is_not_asked_of_a_lora_need_not_be_trained(keys: list[str]) -> None:
    load_config(None, ["prompt=a", *keys])


@pytest.mark.parametrize("loss", ["csd", "nfsd"])
def test_what_changes_guidance_is_refused_where_there_is_none(loss: str) -> None:
    views = "teacher.views={enabled: true, perp_neg: {enabled: true}}"
    rescale = "teacher.guidance_rescale=0.7"
    for given, key in (
        (views, "teacher.views.perp_neg.enabled"),
        (rescale, "teacher.guidance_rescale"),
    ):
        assert "must be off with this loss" in problems(f"loss={loss}", given)[key]
    load_config(None, ["prompt=a", views, rescale, "loss=asd"])


def test_switching_densification_off_in_one_word() -> None:
    assert load_config("esd", ["prompt=a", "densify=none"]).densify == NoDensify()


def test_the_folder_is_named_after_prompt_and_seed() -> None:
    def folder(*overrides: str) -> str:
        return load_config(None, overrides).folder.as_posix()

    assert folder("prompt=A red  owl!", "seed=3") == "outputs/a-red-owl-s3"
    assert folder("prompt=a", "out=x/y") == "x/y"
    assert folder("prompt=a", "out=~/y") == (Path.home() / "y").as_posix()
    long, longer = folder(f"prompt={'owl ' * 99}"), folder(f"prompt={'owl ' * 100}")
    assert long != longer
    assert len(long) < 100
    assert folder("prompt=猫") != folder("prompt=犬")
    assert folder("prompt=../../etc") == "outputs/etc-s0"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=0", "must be at least 1, got 0"),
        ("batch=0", "must be at least 1, got 0"),
        ("seed=-1", "must be in [0, 268435455], got -1"),
        ("seed=268435456", "must be in [0, 268435455], got 268435456"),
        ("checkpoint_every=-1", "must be at least 0, got -1"),
        ("prompt= ", 'must not be empty; say what to make, as prompt="a red owl"'),
        ("view_port=65536", "must be in [0, 65535], got 65536"),
        ("version=2", "2 is of a newer esd_splat; this one reads 1"),
        ("version=0", "0 is of an unknown esd_splat; this one reads 1"),
        ("device=gpu", "expected one of auto, cpu, cuda, cuda:N, mps, got 'gpu'"),
        ("precision=16", "expected one of 32, 16-mixed, bf16-mixed, got 16"),
        ("log.every=0", "must be at least 1, got 0"),
        ("log.diagnose_every=-1", "must be at least 0, got -1"),
        ("export.fps=0", "must be in [1, 120], got 0"),
        ("export.size=4", "must be in [8, 4096], got 4"),
        ("export.elevation=90", "must be in [-89, 89], got 90"),
        (
            "export.formats=[obj]",
            f"expected one of {', '.join(EXPORTERS)}, got 'obj'",
        ),
    ],
)
def test_values_out_of_range(override: str, message: str) -> None:
    key, _, value = override.partition("=")
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override] if key == "prompt" else ["prompt=a", override])
    ((found),) = caught.value.problems
    assert (found.key, found.message) == (key, message), value


def test_resume_and_overwrite_contradict_each_other() -> None:
    assert problems("resume=true", "overwrite=true") == {
        "overwrite": "cannot be true together with resume; choose one"
    }


def test_problems_of_many_sections_come_together() -> None:
    overrides = (
        *("loss.entropy_wieght=3", "loss.entropy_weight=-1", "cameras.size=2", "cameras.foo=1"),
        *("timesteps.min=2", "log.every=0", "log.sheet_every=-1", "steps=x", "fov=3"),
    )
    found = problems(*overrides)
    assert set(found) == {override.partition("=")[0] for override in overrides}
    assert found["fov"] == "unknown key; did you mean 'cameras.fov'?"


@pytest.mark.parametrize("path", ["esd", "esd.yaml", "configs/esd.yaml"])
def test_shipped_configs_are_found_from_any_folder(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(path) == ROOT / "configs" / "esd.yaml"
    (tmp_path / "configs").mkdir()
    own = tmp_path / "configs" / "esd.yaml"
    own.write_text("steps: 7")
    if path == "configs/esd.yaml":
        assert load_config(path, ["prompt=a"]).steps == 7, "a file that is there wins"


@pytest.mark.parametrize("path", ["nope.yaml", "/nowhere/esd.yaml", "configs/nope.yaml"])
def test_an_unknown_config_names_the_shipped_ones_beside_other_problems(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["steps=0"])
    assert str(caught.value) == (
        f"{path}: 2 problems\n"
        "  --config: there is no such file, and no shipped config of that name; "
        "shipped: esd, esd_paper, esd_pool, esd_sd, mvdream, sds, threestudio, vsd\n"
        "  steps: must be at least 1, got 0"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: Is a directory"), (b"\xff\xfe\x00", "cannot be read: is not text")],
)
def test_a_config_that_is_no_text_file(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"--config: {message}"):
        load_config(path, ["prompt=a"])


def test_sections_work_alone() -> None:
    assert Log(every=1).every == 1
    with pytest.raises(ValueError, match="out: must name a folder, or be null"):
        Config(prompt="a", out=" ")
    assert Orbit() == load_config(None, ["prompt=a"]).cameras
    with pytest.raises(ValueError, match=r"frames: must be at least 0.*\nfps: must be in"):
        Export(frames=-1, fps=0)


def test_a_prompt_of_broken_bytes_is_refused() -> None:
    """The prompt has the form that Python gives to arguments that are not UTF-8."""
    broken = b"an \xff owl".decode(errors="surrogateescape")
    with pytest.raises(ConfigError, match=r"prompt: must be text in UTF-8, got 'an \\udcff owl'"):
        load_config(None, [f"prompt={broken}"])
    with pytest.raises(ConfigError, match="negative_prompt: must be text in UTF-8"):
        load_config(None, ["prompt=an owl", f"negative_prompt={broken}"])
