"""Low-rank changes (LoRA) that are part of a teacher: added to its weights, once and for all."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esd_splat.errors import TeacherError
from esd_splat.files import expanded
from esd_splat.teacher.families import Family
from esd_splat.teacher.loading import SAFE, reason
from esd_splat.teacher.single_file import header_keys

USUAL_NAME = f"pytorch_lora_weights{SAFE}"
"""Of the file in a folder that diffusers saved."""
MOST = 10.0
"""Of a scale, either way: what is beyond is a slip, such as 80 for 0.8."""
_ADAPTER = "fused"


@dataclass(frozen=True)
class Lora:
    """A file, and how much of it counts."""

    file: Path
    scale: float

    def fuse(self, family: Family, parts: dict[str, Any]) -> str:
        """Add it to the networks among ``parts``, for good.

        Returns:
            What was changed, in one line.

        Raises:
            TeacherError: it belongs to another kind of model, or cannot be read.
        """
        keys = self.check()
        layers = {re.split(r"[._]lora[._]|\.alpha$", key)[0] for key in keys}
        pipeline = family.as_pipeline(parts)
        try:
            pipeline.load_lora_weights(
                str(self.file.parent),
                weight_name=self.file.name,
                adapter_name=_ADAPTER,
                use_safetensors=True,
                local_files_only=True,
            )
            changed = {name: count for name in parts if (count := _adapted(parts[name]))}
            # Of what does not fit, diffusers only warns.
            if (placed := sum(changed.values())) < len(layers):
                raise ValueError(
                    f"{len(layers) - placed} of its {len(layers)} layers are not in this model"
                )
            pipeline.fuse_lora(list(changed), lora_scale=self.scale, safe_fusing=True)
        # A foreign LoRA fails in as many ways as there are shapes and names of layers.
        except Exception as error:
            raise TeacherError(
                f"teacher.lora: {self.file} does not fit {family.name} ({reason(error)}): it has "
                f"layers such as {min(layers, default='none')!r}{self._made_for()}; give one that "
                "was trained on this family, or the teacher.model that it was trained on"
            ) from error
        pipeline.unload_lora_weights()
        places = ", ".join(f"{count} layers of the {name}" for name, count in changed.items())
        return f"teacher.lora: {self.file} at {self.scale:g} changed {places}"

    def check(self) -> list[str]:
        """The names of its weights.

        Raises:
            TeacherError: no LoRA that can be read, by its header.
        """
        keys = header_keys("teacher.lora", self.file)
        if not any("lora" in key for key in keys):
            raise TeacherError(
                f"teacher.lora: {self.file} is no LoRA: its weights are such as "
                f"{keys[0] if keys else 'none'!r}; a whole model is for teacher.model"
            )
        if any("dora_scale" in key for key in keys):
            raise TeacherError(
                f"teacher.lora: {self.file} is a DoRA, of which diffusers would drop the scales; "
                "give a plain LoRA"
            )
        return keys

    def _made_for(self) -> str:
        from safetensors import safe_open

        with safe_open(self.file, framework="pt") as file:
            known = file.metadata() or {}
        for name in ("ss_base_model_version", "modelspec.architecture"):
            if name in known:
                return f" and says that it is for {known[name]}"
        return ""


def split_scale(text: str) -> tuple[str, float]:
    """The path and the scale in ``path:scale``, or 1."""
    found = re.fullmatch(r"(.+):([-+]?(?:\d+\.?\d*|\.\d+))", text)
    return (found[1], float(found[2])) if found else (text, 1.0)


def find_lora(text: str) -> Lora:
    """The file that ``path`` or ``path:scale`` means: itself, or the one LoRA in a folder.

    Raises:
        TeacherError: there is none, or several.
    """
    name, scale = split_scale(text)
    path = expanded(name)
    if not path.exists():
        raise TeacherError(
            f"teacher.lora: no file {name!r}; give a {SAFE} file or its folder, and after a colon "
            f"how much of it counts, as in style{SAFE}:0.8"
        )
    if path.is_file():
        return Lora(path, scale)
    files = sorted(path.glob(f"*{SAFE}"))
    usual = [file for file in files if file.name == USUAL_NAME] or files
    if len(usual) != 1:
        count = f"{len(files)} {SAFE} files" if files else f"no {SAFE} file"
        raise TeacherError(f"teacher.lora: {path} has {count}; give the path of one")
    return Lora(usual[0], scale)


def _adapted(part: Any) -> int:
    """How many layers of a network the LoRA is in."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = part.modules() if hasattr(part, "modules") else ()
    return sum(isinstance(module, BaseTunerLayer) for module in modules)
