"""Loading the parts of a model from a folder, the hub, or a single file with a folder beside it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from esd_splat.command import say
from esd_splat.errors import TeacherError, one_line, reason
from esd_splat.teacher import mvdream
from esd_splat.teacher.families import INDEX, SD3, Family, family_by_index, family_of
from esd_splat.teacher.listing import Listing, in_words
from esd_splat.teacher.loading import DamagedError, local_folder, reach_hub, way_out
from esd_splat.teacher.single_file import SCALES, SingleFile, load_network, read_weights
from esd_splat.teacher.weight_files import check_index, check_part

LAST_FILE = "scheduler/scheduler_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
UNKNOWN_LENGTH = int(1e30)
"""What transformers takes for the length of texts where nothing states it."""
MOST_TOKENS = 4096
"""The longest text that a tokenizer may ask for."""
_OTHER_SHAPE = re.compile(
    r"(\S+) expected shape torch\.Size\((.*?)\), but got torch\.Size\((.*?)\)"
    r"|size mismatch for|ignore_mismatched_sizes"
)
"""What diffusers and transformers say of weights that do not fit their config."""


class Loaded(NamedTuple):
    """The parts of a model."""

    family: Family
    parts: dict[str, Any]
    """By name."""
    notes: tuple[str, ...]
    """What a user should know about the origin of the weights, one line each."""


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
    """The variant of the weights to load, where there is one."""
    file: SingleFile | None = None
    """A single-file checkpoint, whose networks replace those in ``where``."""
    empty: bool = False
    """Whether networks are made on ``meta``, from their configs alone. No weight is read."""

    def load(self, dtype: torch.dtype) -> "Loaded":
        """Load the parts, with the networks converted to ``dtype``.

        Raises:
            TeacherError: a part is missing, or cannot be loaded.
        """
        import diffusers
        import transformers

        libraries = {"diffusers": diffusers, "transformers": transformers}
        folder = local_folder(self.where)
        if folder is None:
            with self._asking():
                where = reach_hub(self.where, INDEX, LAST_FILE)
            if where != self.where:
                hint = f"The hub's cache may hold only a part of {self.where}. {self.hint}"
                return replace(self, where=where, hint=hint).load(dtype)
        family = self._hub_family() if folder is None else family_of(folder)
        if self.file is not None and self.file.family is not family:
            raise TeacherError(
                f"{self.key}: {self.where!r} is a {family.name} model, but {self.file.path} is a "
                f"{self.file.family.name} model; give one of that family for the configs"
            )
        wanted, held = self._wanted(family, folder), self.file.holds if self.file else frozenset()
        variants = self._variants([name for name in wanted if name not in held], folder is None)
        weights = read_weights(self.file.path, dtype) if self.file else {}
        parts: dict[str, Any] = {}
        for name, kind in wanted.items():
            library, of = kind.split(".")
            cls, at = getattr(libraries[library], of), repr(self.where)
            try:
                if name in held and self.file:
                    at = f"{str(self.file.path)!r} with the configs of {at}"
                    parts[name] = load_network(cls, name, weights, self.where, dtype)
                else:
                    one = replace(self, variant=variants.get(name))
                    parts[name] = one._from_folder(family, name, cls, dtype)
            # Errors of the hub, network, safetensors and shapes have no closer common base class.
            except Exception as error:
                raise TeacherError(
                    f"{self.key}: cannot load the {name} of {at}: {self._why(error, name)}"
                ) from error
        networks = [name for name, part in parts.items() if isinstance(part, torch.nn.Module)]
        notes = []
        if self.file is not None and (lacks := sorted(set(networks) - held)):
            notes.append(f"{self.file.path} has no {', '.join(lacks)}: taken from {self.where}")
        if plain := [n for n in networks if n in variants and variants[n] != self.variant]:
            notes.append(
                f"{self.where} has no {self.variant} weights for {', '.join(plain)}: those without "
                "a variant are loaded"
            )
        return Loaded(family, parts, tuple(notes))

    def _why(self, error: Exception, name: str) -> str:
        """Return why a part cannot be loaded, and what to do as far as the error tells."""
        in_file = self.file is not None and name in self.file.holds
        if found := _OTHER_SHAPE.search(str(error)):
            layer = f"{found[1]} of the shape {found[2]}, not {found[3]}" if found[1] else "others"
            return f"its weights are not those of its config.json, which asks for {layer}" + (
                "; teacher.parts must be a model with such networks" if in_file else ""
            )
        why = reason(error)
        if not isinstance(error, (OSError, DamagedError)):
            return why
        return f"{why}; give a complete file" if in_file else f"{why}. {self.hint}"

    def _variants(self, parts: list[str], on_hub: bool) -> dict[str, str | None]:
        """Return the variant of the weights of each part, and announce what must be downloaded."""
        variants: dict[str, str | None] = dict.fromkeys(parts, self.variant)
        if self.variant is None and not on_hub:
            return variants
        with self._asking():
            listing = Listing.of(self.where)
        if self.variant is not None:
            variants = {n: self.variant if listing.has(n, self.variant) else None for n in parts}
        if on_hub and (files := listing.to_fetch(variants)):
            from huggingface_hub import constants

            line = in_words(self.where, files, parts, constants.HF_HUB_CACHE)
            say(line, to_stderr=True)  # where the hub's bars follow
        if on_hub:
            self._check_indexes(listing, variants)
        return variants

    def _check_indexes(self, listing: Listing, variants: dict[str, str | None]) -> None:
        from huggingface_hub import hf_hub_download

        for part, variant in variants.items():
            for file in listing.weight_files(part, variant):
                if file.endswith(".json"):
                    with self._asking():
                        path = hf_hub_download(self.where, f"{part}/{file}")
                    try:
                        check_index(Path(path))
                    except DamagedError as error:
                        raise TeacherError(f"{self.key}: {self.where}: {part}/{error}") from error

    def _wanted(self, family: Family, folder: Path | None) -> dict[str, str]:
        there = (
            family.optional
            if folder is None
            else {name: kind for name, kind in family.optional.items() if (folder / name).is_dir()}
        )
        return family.parts | there

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn errors of the hub into one line that says what to do."""
        try:
            yield
        # Errors of the hub and of the network have no closer common base class.
        except Exception as error:
            raise TeacherError(
                f"{self.key}: cannot get {self.where!r} from the hub: {way_out(self.where, error)}"
            ) from error

    def _hub_family(self) -> Family:
        from huggingface_hub import hf_hub_download

        return family_by_index(Path(hf_hub_download(self.where, INDEX)))

    def _from_folder(self, family: Family, name: str, kind: Any, dtype: torch.dtype) -> Any:
        options: dict[str, Any] = {"subfolder": name}
        folder = local_folder(self.where)
        if name == "scheduler":
            says_v = self.file is not None and self.file.predicts_v
            _check_scheduler(family, kind.load_config(self.where, **options), says_v)
        if name == "vae":
            kind = _vae_class(self.where)
        if not hasattr(kind, "parameters"):
            part = kind.from_pretrained(self.where, **options)
            if name.startswith("tokenizer"):
                # transformers silently does without files that are missing, even without all.
                if not len(part) > len(part.all_special_tokens):
                    raise DamagedError("it has no vocabulary")
                _check_length(part)
                if folder is not None and not (folder / name / TOKENIZER_CONFIG).exists():
                    raise DamagedError(f"it has no {TOKENIZER_CONFIG}, which says how texts end")
            return part
        if self.empty:
            with torch.device("meta"):
                return _from_config(kind, self.where, name).to(dtype)
        if folder is not None:
            check_part(folder / name, Listing.of(self.where).weight_files(name, self.variant))
        config = kind.load_config(self.where, **options) if name == "unet" else {}
        if mvdream.is_published(config):
            return mvdream.load_unet(kind, self.where, config, self.variant, dtype)
        # Only safetensors files are read, never pickles.
        options |= {"use_safetensors": True, "variant": self.variant, "output_loading_info": True}
        options["dtype" if name.startswith("text_encoder") else "torch_dtype"] = dtype
        part, info = kind.from_pretrained(self.where, **options)
        # Both libraries would initialize missing weights at random.
        if lacking := sorted(info["missing_keys"]):
            raise DamagedError(f"its file lacks {len(lacking)} weights, such as {lacking[0]}")
        # They would leave out the scales of quantized weights.
        if scales := sorted(key for key in info["unexpected_keys"] if key.endswith(SCALES)):
            raise ValueError(f"its weights have scales, such as {scales[0]}; give unscaled ones")
        return part


def _check_length(tokenizer: Any) -> None:
    """Refuse a length that no text encoder takes, as each text is padded to it."""
    length = tokenizer.model_max_length
    # Without a length, transformers sets a huge one. T5's is ours to choose.
    if length != UNKNOWN_LENGTH and not (isinstance(length, int) and 1 < length <= MOST_TOKENS):
        raise DamagedError(
            f"its {TOKENIZER_CONFIG} has a model_max_length of {one_line(length)}; text encoders "
            f"take 2 to {MOST_TOKENS} tokens, and CLIP's 77"
        )


def _from_config(kind: Any, where: str, name: str) -> torch.nn.Module:
    if hasattr(kind, "from_config"):
        config = kind.load_config(where, subfolder=name)
        return kind.from_config(
            mvdream.unet_config(config) if mvdream.is_published(config) else config
        )
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
