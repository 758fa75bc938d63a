"""Loading the parts of a model from a folder, the hub, or a single file with a folder beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from esd_splat.errors import TeacherError
from esd_splat.teacher.families import INDEX, SD3, Family, family_by_index, family_of
from esd_splat.teacher.loading import local_folder, reach_hub, reason, way_out
from esd_splat.teacher.single_file import SingleFile, load_network

LAST_FILE = "scheduler/scheduler_config.json"


@dataclass(frozen=True)
class Source:
    """The place of a model's parts."""

    key: str
    """The config key that chose ``where``, for messages."""
    where: str
    """A folder in diffusers' layout, or the hub id of one."""
    hint: str
    """What the user can do if something there cannot be read."""
    variant: str | None = None
    file: SingleFile | None = None
    """A single-file checkpoint, whose networks replace those in ``where``."""

    def load(self, dtype: torch.dtype, *, empty: bool = False) -> tuple[Family, dict[str, Any]]:
        """Return the family and its parts by name, with the networks converted to ``dtype``.

        Args:
            empty: make the networks on ``meta``, from their configs alone. No weight is read.

        Raises:
            TeacherError: a part is missing, or cannot be loaded.
        """
        import diffusers
        import transformers
        from safetensors.torch import load_file

        libraries = {"diffusers": diffusers, "transformers": transformers}
        folder = local_folder(self.where)
        if folder is None and (where := self._ask_hub()) != self.where:
            return replace(self, where=where).load(dtype, empty=empty)
        family = self._hub_family() if folder is None else family_of(folder)
        if self.file is not None and self.file.family is not family:
            raise TeacherError(
                f"{self.key}: {self.where!r} is a {family.name} model, but {self.file.path} is a "
                f"{self.file.family.name} model; give one of that family for the configs"
            )
        file = None if empty else self.file
        weights = load_file(file.path) if file else {}
        held = file.holds if file else frozenset()
        parts: dict[str, Any] = {}
        for name, kind in self._wanted(family, folder).items():
            library, of = kind.split(".")
            cls, at = getattr(libraries[library], of), repr(self.where)
            try:
                if name in held and file:
                    at = f"{str(file.path)!r} with the configs of {at}"
                    parts[name] = load_network(cls, name, weights, self.where, dtype)
                else:
                    parts[name] = self._from_folder(family, name, cls, dtype, empty)
            # Errors of the hub, network, safetensors and shapes have no closer common base class.
            except Exception as error:
                raise TeacherError(
                    f"{self.key}: cannot load the {name} of {at}: {reason(error)}. {self.hint}"
                ) from error
        return family, parts

    def borrowed(self, parts: Mapping[str, Any]) -> list[str]:
        """Return a line that names the networks among ``parts`` that the file lacks, if any."""
        networks = {name for name, part in parts.items() if isinstance(part, torch.nn.Module)}
        if self.file is None or not (lacks := sorted(networks - self.file.holds)):
            return []
        return [f"{self.file.path} has no {', '.join(lacks)}: taken from {self.where}"]

    def _wanted(self, family: Family, folder: Path | None) -> dict[str, str]:
        there = (
            family.optional
            if folder is None
            else {name: kind for name, kind in family.optional.items() if (folder / name).is_dir()}
        )
        return family.parts | there

    def _ask_hub(self) -> str:
        try:
            return reach_hub(self.where, INDEX, LAST_FILE)
        # Errors of the hub and of the network have no closer common base class.
        except Exception as error:
            raise TeacherError(
                f"{self.key}: cannot get {self.where!r} from the hub: {way_out(self.where, error)}"
            ) from error

    def _hub_family(self) -> Family:
        from huggingface_hub import hf_hub_download

        return family_by_index(Path(hf_hub_download(self.where, INDEX)))

    def _from_folder(
        self, family: Family, name: str, kind: Any, dtype: torch.dtype, empty: bool
    ) -> Any:
        options: dict[str, Any] = {"subfolder": name}
        if name == "scheduler":
            says_v = self.file is not None and self.file.predicts_v
            _check_scheduler(family, kind.load_config(self.where, **options), says_v)
        if name == "vae":
            kind = _vae_class(self.where)
        if not hasattr(kind, "parameters"):
            part = kind.from_pretrained(self.where, **options)
            # transformers silently makes an empty tokenizer if the files are missing.
            if name.startswith("tokenizer") and not len(part) > len(part.all_special_tokens):
                raise ValueError("it has no vocabulary")
            return part
        if empty:
            with torch.device("meta"):
                return _from_config(kind, self.where, name).to(dtype)
        # Only safetensors files are read, never pickles.
        options |= {"use_safetensors": True, "variant": self.variant, "output_loading_info": True}
        options["dtype" if name.startswith("text_encoder") else "torch_dtype"] = dtype
        part, info = kind.from_pretrained(self.where, **options)
        # Both libraries would initialize missing weights at random.
        if lacking := sorted(info["missing_keys"]):
            raise ValueError(f"its file lacks {len(lacking)} weights, such as {lacking[0]}")
        return part


def _from_config(kind: Any, where: str, name: str) -> torch.nn.Module:
    if hasattr(kind, "from_config"):
        return kind.from_config(kind.load_config(where, subfolder=name))
    return kind(kind.config_class.from_pretrained(where, subfolder=name))


def _check_scheduler(family: Family, config: Mapping[str, Any], says_v: bool) -> None:
    """Refuse the scheduler of another kind of model, for which diffusers would use its defaults."""
    name = config.get("_class_name", "unknown")
    flows = name.startswith("FlowMatch")
    if flows != (family is SD3):
        wanted = "FlowMatchEulerDiscreteScheduler" if family is SD3 else "DDPM- or DDIMScheduler"
        raise ValueError(f"it is a {name}, but {family.name} was trained with a {wanted}")
    if not flows and config.get("trained_betas") is None and "beta_start" not in config:
        raise ValueError(f"it is a {name}, without the betas that {family.name} was trained with")
    if says_v and (found := config.get("prediction_type")) != "v_prediction":
        raise ValueError(
            f"the file says that it predicts v_prediction, but this says {found!r}; give as "
            "teacher.parts a folder whose scheduler/scheduler_config.json says v_prediction"
        )


def _vae_class(source: str) -> Any:
    import diffusers

    name = diffusers.AutoencoderKL.load_config(source, subfolder="vae")["_class_name"]  # pyright: ignore
    if name not in ("AutoencoderKL", "AutoencoderTiny"):
        raise ValueError(f"it is a {name}, not AutoencoderKL or AutoencoderTiny")
    return getattr(diffusers, name)
