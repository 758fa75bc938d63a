"""LoRA files that become part of a teacher. They are fused into its weights when it is loaded."""

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
"""Name of the LoRA file in a folder that diffusers saved."""
MOST = 10.0
"""Largest magnitude of a scale. A larger one is probably a mistake, such as 80 for 0.8."""
_ADAPTER = "fused"


@dataclass(frozen=True)
class Lora:
    """A LoRA file, and the scale with which it is fused."""

    file: Path
    scale: float

    def fuse(self, family: Family, parts: dict[str, Any]) -> str:
        """Fuse the LoRA into the weights of the networks among ``parts``.

        Returns:
            One line that says which networks were changed.

        Raises:
            TeacherError: the LoRA belongs to another kind of model, or cannot be read.
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
            # diffusers only warns about layers that do not fit.
            if (placed := sum(changed.values())) < len(layers):
                raise ValueError(
                    f"{len(layers) - placed} of its {len(layers)} layers are not in this model"
                )
            pipeline.fuse_lora(list(changed), lora_scale=self.scale, safe_fusing=True)
        # The error for a foreign LoRA depends on the names and shapes of its layers.
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
        """Return the names of the weights, after checking that the file is a LoRA.

        Only the header of the file is read.

        Raises:
            TeacherError: the file cannot be read, or is not a LoRA that can be used.
        """
        keys = header_keys("teacher.lora", self.file)
        if not any("lora" in key for key in keys):
            raise TeacherError(
                f"teacher.lora: {self.file} is not a LoRA: it has weights such as "
                f"{keys[0] if keys else 'none'!r}; a whole model belongs in teacher.model"
            )
        if any("dora_scale" in key for key in keys):
            raise TeacherError(
                f"teacher.lora: {self.file} is a DoRA, whose scales diffusers would drop; "
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
    """Return the path and the scale in ``path:scale``. The scale is 1 if it is left out."""
    found = re.fullmatch(r"(.+):([-+]?(?:\d+\.?\d*|\.\d+))", text)
    return (found[1], float(found[2])) if found else (text, 1.0)


def find_lora(text: str) -> Lora:
    """Return the LoRA that ``path`` or ``path:scale`` means, where ``path`` is a file or a folder.

    Raises:
        TeacherError: the path does not exist, or the folder holds no LoRA or several.
    """
    name, scale = split_scale(text)
    path = expanded(name)
    if not path.exists():
        raise TeacherError(
            f"teacher.lora: no file {name!r}; give a {SAFE} file or its folder, and after a colon "
            f"a scale if it is not 1, as in style{SAFE}:0.8"
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
    """Return the number of layers of a network to which the LoRA was added."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = part.modules() if hasattr(part, "modules") else ()
    return sum(isinstance(module, BaseTunerLayer) for module in modules)
