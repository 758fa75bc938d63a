"""The files of a model, on disk or on the hub: which are wanted, and how large a download is."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from esd_splat.teacher.loading import HUB_TIMEOUT, SAFE, local_folder

WEIGHTS = re.compile(r"(?:diffusion_pytorch_)?model((?:[.-][\w-]+)*)\.safetensors")
INDEX = re.compile(r"\.safetensors\.index[\w.-]*\.json$")
SHARD = re.compile(r"-\d+-of-\d+")


@dataclass(frozen=True)
class Listing:
    """All files of a model in diffusers' layout."""

    where: str
    """Its folder, or its hub id."""
    sizes: dict[str, int]
    """Bytes of each file, by its path in the model."""

    @classmethod
    def of(cls, where: str) -> "Listing":
        """List a folder, or ask the hub."""
        if (folder := local_folder(where)) is not None:
            files = [path for path in folder.rglob("*") if path.is_file()]
            return cls(where, {p.relative_to(folder).as_posix(): p.stat().st_size for p in files})
        from huggingface_hub import HfApi

        found = HfApi().model_info(where, files_metadata=True, timeout=HUB_TIMEOUT).siblings or []
        return cls(where, {file.rfilename: file.size or 0 for file in found})

    def has(self, part: str, variant: str) -> bool:
        """Whether the folder ``part`` holds weights of this variant."""
        return any(self._variant(name, part) == variant for name in self.sizes)

    def weight_files(self, part: str, variant: str | None) -> list[str]:
        """Return the names of the weight files and indexes in the folder ``part``."""
        names = [
            name.removeprefix(f"{part}/") for name in self.sizes if name.startswith(f"{part}/")
        ]
        return [
            name
            for name in names
            if INDEX.search(name) or self._variant(f"{part}/{name}", part) == variant
        ]

    def to_fetch(self, variants: dict[str, str | None]) -> dict[str, int]:
        """Return the sizes of the files that loading fetches, by name, as far as they are missing.

        Args:
            variants: for each part that is loaded, the variant of its weights.
        """
        from huggingface_hub import try_to_load_from_cache

        wanted = {
            name: size
            for name, size in self.sizes.items()
            for part, variant in variants.items()
            if name.startswith(f"{part}/")
            and (
                name.endswith((".json", ".txt", ".model"))
                or (name.endswith(SAFE) and self._variant(name, part) == variant)
            )
        }
        return {
            name: size
            for name, size in wanted.items()
            if not isinstance(try_to_load_from_cache(self.where, name), str)
        }

    @staticmethod
    def _variant(name: str, part: str) -> str | None:
        """Return the variant of a weight file of ``part``, and an empty string for other files."""
        found = WEIGHTS.fullmatch(name.removeprefix(f"{part}/"))
        if found is None or not name.startswith(f"{part}/"):
            return ""
        return SHARD.sub("", found[1]).lstrip(".") or None


def in_words(where: str, files: dict[str, int], parts: Collection[str], into: str) -> str:
    """Return the line that announces a download."""
    some = ", ".join(part for part in parts if any(name.startswith(f"{part}/") for name in files))
    gigabytes = sum(files.values()) / 1e9
    size = f"{gigabytes:.1f} GB" if gigabytes >= 0.1 else f"{1e3 * gigabytes:.0f} MB"
    return f"downloading {where} ({some}): {size} in {len(files)} files, into {into}"
