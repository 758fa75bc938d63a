"""A vision-language model as a judge: whether it says that an image shows the front, side or back.

Nothing is generated or parsed. The answers are the probabilities of the letters A and B as the next
token, and every question is asked twice, with the two answers exchanged. A model that prefers a
letter therefore favours no answer.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from esd_splat.errors import JudgeError, reason
from esd_splat.run.measure.judges.base import SIDES, Judge, JudgeConfig
from esd_splat.settings.schema import Field, section
from esd_splat.teacher import Teacher, TeacherConfig
from esd_splat.teacher.loading import local_folder, quiet, reach_hub
from esd_splat.types import Images

QUESTION = "Does this picture show the {side} of {prompt}? {answers} Answer with one letter."
ORDERS = {"A: yes, B: no.": ("A", "B"), "A: no, B: yes.": ("B", "A")}
"""The answers as they are offered, and the letters of yes and no."""
NEEDS = "Give a folder or hub id of a vision-language model with a chat template"


@section
class VisionLanguage(JudgeConfig):
    """A vision-language model of transformers answers questions about each image.

    Its agreement with the truth was not measured for any model.
    """

    model: str = ""
    """Folder saved by transformers, or hub id (owner/name), with safetensors weights."""
    size: int = Field(default=384, ge=16, le=4096)
    """Width and height in pixels of the images that it is shown."""

    @override
    def load(self, teacher: Teacher, config: TeacherConfig) -> Judge:
        if not self.model.strip():
            raise JudgeError(f"judge.model: must be given. {NEEDS}")
        folder = local_folder(self.model)
        if folder is not None and not folder.is_dir():
            raise JudgeError(f"judge.model: no folder {self.model!r}. {NEEDS}")
        with quiet():
            from transformers import AutoModelForImageTextToText, AutoProcessor

            try:
                source = str(folder or reach_hub(self.model, "config.json", "config.json"))
                processor: Any = AutoProcessor.from_pretrained(source)
                loaded: Any = AutoModelForImageTextToText.from_pretrained(  # never a pickle
                    source, use_safetensors=True, output_loading_info=True, dtype="auto"
                )
                model, info = loaded
                if lacking := sorted(info["missing_keys"]):
                    raise ValueError(f"its file lacks {len(lacking)} weights, such as {lacking[0]}")
                if model.config.is_encoder_decoder:
                    raise ValueError("it is an encoder-decoder, which has no next token")
                if not getattr(processor, "chat_template", None):
                    raise ValueError("it has no chat template")
                return _Asked(self, processor, model.eval().to(teacher.device))
            # Errors of the hub, network, safetensors and shapes have no closer common base class.
            except Exception as error:
                raise JudgeError(
                    f"judge.model: cannot use {self.model!r}: {reason(error)}. {NEEDS}"
                ) from error


class _Asked(Judge):
    note = "esd_splat was not tested with any model of this kind but one with random weights"

    def __init__(self, settings: VisionLanguage, processor: Any, model: Any) -> None:
        self.name, self.size = f"vlm {settings.model}", settings.size
        self.processor, self.model = processor, model
        self.letters = {letter: _tokens(processor.tokenizer, letter) for letter in "AB"}

    @override
    @torch.no_grad()
    def sides(
        self, images: Images, prompt: str, generator: torch.Generator
    ) -> Float[Tensor, "b 3"]:
        """Return each side's share of the odds that the image shows it, averaged over both orders.

        The average is that of the logarithms, from which a preference for a letter cancels.
        """
        at = (self.size, self.size)
        shown = torch.nn.functional.interpolate(images, at, mode="bilinear", antialias=True)
        bytes_ = (shown.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        each = [[self._log_odds(image, side, prompt) for side in SIDES] for image in bytes_]
        odds = torch.tensor(each).view(-1, len(SIDES))
        if not odds.isfinite().all():
            raise JudgeError(f"judge.model: the predictions of {self.name} are not finite")
        return odds.softmax(1)

    def _log_odds(self, image: Any, side: str, prompt: str) -> float:
        """Return the logarithm of the odds of yes, averaged over both orders of the answers."""
        total = 0.0
        for answers, (yes, no) in ORDERS.items():
            question = QUESTION.format(side=side, prompt=prompt, answers=answers)
            content = [{"type": "image"}, {"type": "text", "text": question}]
            said = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
            inputs = self.processor(text=[said], images=[[image]], return_tensors="pt")
            inputs = inputs.to(self.model.device, self.model.dtype)
            likely = self.model(**inputs).logits[0, -1].float()
            apart = [likely[self.letters[letter]].logsumexp(0) for letter in (yes, no)]
            total += float(apart[0] - apart[1]) / len(ORDERS)
        return total


def _tokens(tokenizer: Any, letter: str) -> list[int]:
    """Return the tokens that are this letter alone, at the start of a text and after a space.

    Raises:
        ValueError: there are none.
    """
    found: set[int] = set()
    for text in (letter, f" {letter}"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
            found.add(ids[0])
    if not found:
        raise ValueError(f"it has no single token for the letter {letter!r}")
    return sorted(found)
