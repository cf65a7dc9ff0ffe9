"""The memory of generation, estimated on fake tensors and measured on a model that generates."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.tiny import lm as tiny_lm
from worker.engine.estimation.estimate import writing_peak
from worker.engine.estimation.fake import Answers, no_rows_side_by_side, replace_tensors
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.evaluation.generation import write
from worker.engine.memory.ledger import Journal, rounded_on_host

ROWS, PROMPT = 24, 9
CPU = torch.device("cpu")


def measured(kind: str, new: int) -> int:
    """Bytes at the peak while a model writes so many tokens after prompts of one length."""
    model = tiny_lm.model(kind)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = None  # it never ends by itself
    tokenizer = tiny_lm.tokenizer(bos=False)
    tokenizer.eos_token = None
    evaluator = Evaluator(
        device=CPU,
        batch_size=ROWS,
        pad_token=0,
        bf16=False,
        between=lambda: None,
        log=lambda line: None,
        collate=lambda *_: pytest.fail("nothing is collated"),
        max_new_tokens=new,
    )
    nothing = torch.optim.SGD(model.parameters())
    with Journal(model, nothing, lambda: "evaluate", rounded_on_host) as journal:
        write(model, [np.full(PROMPT, 5, dtype=np.int32)] * ROWS, tokenizer, evaluator)
    return journal.ledger("measured", None, ROWS, PROMPT).total


def estimated(kind: str, new: int) -> int:
    """The same, of a model without memory."""
    model = tiny_lm.model(kind)
    replace_tensors(model, mode := FakeTensorMode())
    model.eval()
    nothing = torch.optim.SGD(model.parameters())
    with mode, Answers(), no_rows_side_by_side(), torch.no_grad():
        ids = torch.empty((ROWS, PROMPT), dtype=torch.int64)
        return writing_peak(model, lambda: Journal(model, nothing, lambda: "evaluate", rounded_on_host), ids, None, new)


@pytest.mark.by_day
@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("new", [1, 2, 40])
def test_the_memory_of_generation_is_estimated(kind: str, new: int) -> None:
    assert estimated(kind, new) == pytest.approx(measured(kind, new), rel=0.05)


def test_every_token_more_takes_its_keys_and_values() -> None:
    config = tiny_lm.config("gpt2")
    a_token = 2 * config.n_layer * config.n_embd * 4 * ROWS
    copied = config.n_embd * 4 * ROWS
    assert estimated("gpt2", 120) - estimated("gpt2", 100) == pytest.approx(20 * (a_token + copied), rel=0.05)
