"""What each of two processes holds of a base model before they train (gloo, on the CPU)."""

from pathlib import Path

import pytest
import torch
from transformers import BertModel

from app.domain.methods import FullSpec, LoraSpec, MethodSpec
from tests.support import ranks
from tests.support.ranks import Done, Planned
from tests.support.tiny import texts as tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # processes of their own, which import the ML libraries

SHAPE = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
WHOLE = 4 * 12 * (12 * 512**2)
"""Bytes of the blocks' matrices in float32: 151 MB."""
TRAINING = tiny.FAST.model_copy(update={"num_train_epochs": 1, "gradient_accumulation_steps": 2})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    root = tmp_path_factory.mktemp("memory")
    base, halved = tiny.save_model(root / "base", **SHAPE), root / "halved"
    BertModel.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(halved)
    tiny.tokenizer().save_pretrained(halved)

    def planned(name: str, model: Path, method: MethodSpec) -> Planned:
        return Planned(name=name, job=tiny.job(root / name, model, method, TRAINING, tiny.rows(16, 4, 4)))

    plan = [  # the first in a process pays for what libraries keep
        planned("lora", base, LoraSpec(r=4, target_modules=["query", "value"])),
        planned("full", base, FullSpec()),
        planned("full of bfloat16", halved, FullSpec()),
    ]
    return ranks.execute(root, plan)


def before_training(done: Done) -> list[int]:
    """The peak of each rank until its training begins."""
    return [max(peak for phase, peak in own.items() if phase in ("load", "tokenize", "baseline")) for own in done.peaks]


@pytest.mark.parametrize("name", ["full", "full of bfloat16"])
def test_only_rank_0_ever_holds_the_whole_of_a_shared_model(done: dict[str, Done], name: str) -> None:
    peaks = before_training(done[name])
    print(f"{name}: {[round(peak / 1e6) for peak in peaks]} MB of {WHOLE / 1e6:.0f} MB in float32")
    assert peaks[1] < 0.85 * WHOLE, peaks


def test_replicas_are_made_equal_without_a_second_copy(done: dict[str, Done]) -> None:
    peaks = before_training(done["lora"])
    print(f"lora: {[round(peak / 1e6) for peak in peaks]} MB of {WHOLE / 1e6:.0f} MB in float32")
    assert WHOLE < peaks[1] < 1.5 * WHOLE, peaks
