"""A compiled network gives the results of the plain one, with the scene's LoRA in it and without.

Dynamo captures the passes and runs them without a compiler here, in seconds. With Inductor, which
``memory.compile`` uses, it takes minutes: ``ESD_SPLAT_COMPILE=inductor pytest`` on this file.
"""

import os
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from torch import Tensor

from esd_splat.distill.lora import Lora
from esd_splat.distill.recent import Recent
from esd_splat.scene.cameras import Orbit
from esd_splat.teacher import Memory, StableDiffusion
from esd_splat.teacher.random_weights import save_blank

BACKEND = os.environ.get("ESD_SPLAT_COMPILE", "aot_eager")
CPU = torch.device("cpu")


def _results(model: Path, memory: Memory) -> dict[str, Tensor]:
    """The teacher's and the LoRA's predictions after two training steps."""
    teacher = StableDiffusion(model=str(model)).load(CPU, torch.float32, memory)
    lora = Lora(rank=2, layers="attention", lr=0.1, warmup=0).attach(teacher, 0)
    clean = torch.randn(2, *teacher.latent_shape, generator=torch.Generator().manual_seed(1))
    c2w = Orbit().sample(2, torch.Generator().manual_seed(2)).c2w
    words, t = teacher.embed(["a red owl"]), torch.tensor([300, 900])
    views, drawn = Recent.of(clean, c2w, 0), lora.draw(2, torch.Generator().manual_seed(3))
    for _ in range(2):
        lora.train(views, words, drawn)
    with torch.no_grad():
        own = teacher.eps(clean, t, words.expand(2, -1, -1))
    both = lora.eps(
        *(clean.repeat(2, 1, 1, 1), t.repeat(2), words.expand(4, -1, -1)),
        *(c2w, torch.tensor([False, True])),
    )
    return {"own": own, "beside": both[:2], "lora": both[2:]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # Dynamo looks at all
def test_it_is_the_same_with_a_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_blank(tmp_path / "model", "tiny-sd")
    known = _results(model, Memory(trace=False))
    compiling = partialmethod(torch.nn.Module.compile, backend=BACKEND)
    monkeypatch.setattr(torch.nn.Module, "compile", compiling)
    torch._dynamo.reset()
    found = _results(model, Memory(compile=True))
    passes = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert passes == 3, "training, the teacher, and both together"
    assert not torch._dynamo.utils.counters["graph_break"]
    for name, value in known.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4)
    assert (known["lora"] - known["beside"]).abs().max() > 1e-3
