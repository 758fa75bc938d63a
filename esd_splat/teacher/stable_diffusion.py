"""Teachers in the layout of diffusers: the embedded one, a folder, a hub id."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from esd_splat.errors import PromptError, TeacherError
from esd_splat.prompt import ViewPrompts
from esd_splat.teacher.base import Teacher, TeacherConfig
from esd_splat.teacher.debias import check_language_model
from esd_splat.teacher.families import INDEX, Family, family_by_index, family_of
from esd_splat.teacher.loading import local_folder, quiet, reach_hub, reason

EMBEDDED_FOLDER = Path(__file__).parent.parent / "weights" / "figurines"
LAST_FILE = "scheduler/scheduler_config.json"


@dataclass(frozen=True)
class StableDiffusion(TeacherConfig):
    """Stable Diffusion 1, 2, XL or 3, and what is built like them; the folder says which it is."""

    model: str = TeacherConfig.embedded
    """``figurines`` (the model that ships with us), a folder, or a hub id such as
    stable-diffusion-v1-5/stable-diffusion-v1-5."""
    variant: str | None = None
    """Weight files to take, such as fp16 for ``*.fp16.safetensors``; null takes the plain ones."""
    guidance_scale: float = 1.0
    """Classifier-free guidance, in [0, 1000]: 1 is the model's own distribution, larger follows the
    prompt more and varies less."""
    guidance_rescale: float = 0.0
    """Share, in [0, 1], of the contrast added by guidance that is taken back (arXiv:2305.08891):
    0 is plain guidance; 0.7 is their advice, against washed-out and overexposed colours."""
    views: ViewPrompts = field(default_factory=ViewPrompts)

    def __post_init__(self) -> None:
        ranges = {"guidance_scale": 1000.0, "guidance_rescale": 1.0}
        if problems := [
            f"{name}: must be in [0, {most:g}], got {getattr(self, name):g}"
            for name, most in ranges.items()
            if not 0 <= getattr(self, name) <= most
        ]:
            raise ValueError("\n".join(problems))

    @property
    def folder(self) -> Path | None:
        """Where the model lies, or ``None`` for a hub id."""
        if self.model == self.embedded:
            return EMBEDDED_FOLDER
        return local_folder(self.model)

    @property
    @override
    def vocabulary(self) -> dict[str, Any] | None:
        file = self.folder / "vocabulary.json" if self.folder else None
        if file is None or not file.exists():
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            return found | {name: list(found[name]) for name in ("words", "kinds", "colours")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TeacherError(
                f"teacher.model: {file} is no list of words ({error}). " + self._hint()
            ) from error

    @override
    def check(self, prompts: Mapping[str, str]) -> None:
        check_language_model(self.views.language_model)
        folder = self.folder
        if folder is None:
            return
        if not folder.is_dir():
            raise TeacherError(
                f"teacher.model: no folder {self.model!r}; give a Stable Diffusion folder, a hub "
                f"id (owner/name), or {self.embedded!r} for the model that ships with esd_splat"
            )
        family = family_of(folder)
        if missing := [part for part in family.parts if not (folder / part).is_dir()]:
            raise TeacherError(
                f"teacher.model: {folder} is not a {family.name} folder: it has no "
                f"{', '.join(missing)}; save one with diffusers' save_pretrained"
            )
        if vocabulary := self.vocabulary:
            _check_words(prompts, vocabulary)

    @override
    def load(self, device: torch.device, dtype: torch.dtype) -> Teacher:
        # Imported here: they take seconds, and a wrong key should not cost seconds.
        with quiet():
            import diffusers
            import transformers

            libraries = {"diffusers": diffusers, "transformers": transformers}
            self._reach_hub()
            family = self._family()
            wanted = family.parts | {
                name: kind
                for name, kind in family.optional.items()
                if self.folder is None or (self.folder / name).is_dir()
            }
            parts = {}
            for name, kind in wanted.items():
                library, of = kind.split(".")
                parts[name] = self._load_part(name, getattr(libraries[library], of), dtype)
        return family.build(parts, device, dtype)

    def _family(self) -> Family:
        if self.folder is not None:
            return family_of(self.folder)
        from huggingface_hub import hf_hub_download

        return family_by_index(Path(hf_hub_download(self.model, INDEX)))

    def _load_part(self, name: str, kind: Any, dtype: torch.dtype) -> Any:
        options: dict[str, Any] = {"subfolder": name}
        if hasattr(kind, "parameters"):
            # Never a pickle: only safetensors are read.
            options |= {"torch_dtype": dtype, "use_safetensors": True, "variant": self.variant}
            options["output_loading_info"] = True
        if name.startswith("text_encoder"):
            options["dtype"] = options.pop("torch_dtype")
        source = str(self.folder or self.model)
        try:
            if name == "vae":
                kind = _vae_class(source)
            part = kind.from_pretrained(source, **options)
            # transformers makes an empty tokenizer of a missing one, without a word.
            if "output_loading_info" in options:
                part, info = part
                # Both libraries would make up what a file of another network lacks.
                if lacking := sorted(info["missing_keys"]):
                    raise ValueError(f"its file lacks {len(lacking)} weights, such as {lacking[0]}")
            if name.startswith("tokenizer") and not len(part) > len(part.all_special_tokens):
                raise ValueError("it has no vocabulary")
            return part
        # Hub, network, safetensors and shape errors share no base class but this one.
        except Exception as error:
            raise TeacherError(
                f"teacher.model: cannot load the {name} of {source!r}: {reason(error)}. "
                + self._hint()
            ) from error

    def _reach_hub(self) -> None:
        """Ask the hub once, as loading would ask, wait and ask again for each of many files."""
        if self.folder is not None:
            return
        try:
            reach_hub(self.model, LAST_FILE)
        except Exception as error:
            raise TeacherError(
                f"teacher.model: cannot find {self.model!r} on the hub: {reason(error)}. "
                + self._hint()
            ) from error

    def _hint(self) -> str:
        if self.folder is None:
            return (
                "Without a network, download the model elsewhere and give its folder; "
                f"teacher.model={self.embedded} needs neither."
            )
        if self.model == self.embedded:
            return "The installation is damaged: install esd_splat again."
        return "Its weights must be whole, and safetensors; copy or download the folder again."


def _check_words(prompts: Mapping[str, str], vocabulary: dict[str, Any]) -> None:
    for key, text in prompts.items():
        words = re.findall(r"[^\W_]+|[^\w\s]|_", text.lower())
        unknown = sorted(set(words) - set(vocabulary["words"]))
        if not unknown:
            continue
        kinds, colours = vocabulary["kinds"], vocabulary["colours"]
        others = [word for word in vocabulary["words"] if word not in (*kinds, *colours)]
        raise PromptError(
            f"{key}: the embedded teacher does not know {', '.join(map(repr, unknown))}. It knows "
            f'{", ".join(kinds)} in {", ".join(colours)}, as in "a red owl", and '
            f"{' '.join(others)}. For other things choose another teacher, such as "
            "teacher.model=stable-diffusion-v1-5/stable-diffusion-v1-5 (configs/esd_sd.yaml, GPU)"
        )


def _vae_class(source: str) -> Any:
    import diffusers

    name = diffusers.AutoencoderKL.load_config(source, subfolder="vae")["_class_name"]  # pyright: ignore
    if name not in ("AutoencoderKL", "AutoencoderTiny"):
        raise ValueError(f"it is a {name}, not AutoencoderKL or AutoencoderTiny")
    return getattr(diffusers, name)
