"""Losses, rewards and gradients of preference tuning equal those of TRL, by its own trainers."""

import math
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from app.domain.data.dataset import PreferenceRow
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import preferences as tiny_preferences
from tests.unit.worker.engine.tasks.test_preference import encoded, evaluated
from vezna.scores.default import default_of
from worker.engine.data.batches.batches import IGNORED
from worker.engine.tasks import preference
from worker.engine.tasks.preference import CHOSEN, REJECTED, Preferences

pytestmark = pytest.mark.slow  # importing TRL takes 7 s
BETA = 0.3


def moved() -> Any:
    """The tiny model after some training: it differs from the reference."""
    model = tiny_lm.model("llama")
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return [parameter.grad.clone() for parameter in model.parameters()]


def trl_ids(examples: Preferences, place: int) -> tuple[dict[str, list[int]], int]:
    """Prompt, chosen and rejected ids as TRL's datasets have them."""
    sides = []
    for tokens, targets in (
        (examples.tokens[place], examples.targets[place]),
        (examples.rejected[place], examples.rejected_targets[place]),
    ):
        answer = targets[targets != IGNORED].tolist()
        sides.append((tokens[: len(tokens) - len(answer) + 1].tolist(), answer))
    (prompt, chosen), (other, rejected) = sides
    assert prompt == other
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}, len(prompt)


def test_dpo_is_that_of_trl(tmp_path: Path) -> None:
    """TRL's trainer, with the reference that it computes by a copy of the model before training."""
    trl = import_module("trl")
    pairs = tiny_preferences.rows(0, 0, 12)
    examples = encoded(list(pairs), tmp_path, beta=BETA)
    rows = [trl_ids(examples, place)[0] for place in range(len(examples))]
    texts = [{"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected} for row in pairs]
    model, reference = moved(), tiny_lm.model("llama")
    trainer = trl.DPOTrainer(
        model,
        reference,
        trl.DPOConfig(str(tmp_path / "trl"), beta=BETA, use_cpu=True, report_to=[], bf16=False, disable_dropout=True),
        train_dataset=import_module("datasets").Dataset.from_list(texts),
        processing_class=tiny_lm.tokenizer(),
    )
    prepared = [{name: row[name] for name in rows[0]} for row in trainer.train_dataset]
    assert prepared == rows, "tokens, with those of the beginning and the end of a text"
    batch = trainer.data_collator(prepared)
    trainer.model.train()
    theirs = trainer._compute_loss(trainer.model, batch, return_outputs=False)
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}

    before = evaluated(reference, examples).columns
    compared = examples.against(np.array([before[CHOSEN], before[REJECTED]]))
    ours = preference.loss(model, preference.collate(compared, range(12), 0)) / 12
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(gradients(model, ours), gradients(model, theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    found = evaluated(model, compared).metrics
    assert found["preference_accuracy"] == pytest.approx(metrics["rewards/accuracies"])
    assert found["reward_margin"] == pytest.approx(metrics["rewards/margins"], rel=1e-4)


def test_conversations_have_the_tokens_of_trl(tmp_path: Path) -> None:
    """With a template that ends a turn with the end of text."""
    trl = import_module("trl")
    pairs, template = tiny_preferences.chats(0, 0, 4), tiny_lm.CHAT_TEMPLATE.replace("<end> ", "</s>")
    examples = encoded(list(pairs), tmp_path, template, max_length=64)
    texts = [
        {"prompt": row.messages}
        | {side: [{"role": "assistant", "content": getattr(row, side)}] for side in ("chosen", "rejected")}
        for row in pairs
    ]
    tokenizer = tiny_lm.tokenizer()
    tokenizer.chat_template = template
    trainer = trl.DPOTrainer(
        tiny_lm.model("llama"),
        tiny_lm.model("llama"),
        trl.DPOConfig(str(tmp_path / "trl"), use_cpu=True, report_to=[], bf16=False),
        train_dataset=import_module("datasets").Dataset.from_list(texts),
        processing_class=tokenizer,
    )
    rows = [trl_ids(examples, place)[0] for place in range(len(examples))]
    assert [{name: row[name] for name in rows[0]} for row in trainer.train_dataset] == rows


def test_long_answers_are_truncated_as_by_trl_and_score_alike_where_they_become_equal(tmp_path: Path) -> None:
    """Prompts of one token, of which Vezna leaves nothing out: the losses of truncated pairs are TRL's, and a pair that
    differs beyond max_length counts ½ in both."""
    trl, dataset = import_module("trl"), import_module("datasets").Dataset
    long = " one two three four five six one two"
    pairs = [
        PreferenceRow("a", "test", "count", long, " six" + long),
        PreferenceRow("b", "test", "from", f"{long} one", f"{long} six"),
        PreferenceRow("c", "test", "then", " six", long),
        PreferenceRow("d", "test", "then", long, " stop"),
    ]
    examples = encoded(list(pairs), tmp_path, bos=False, beta=BETA, max_length=7)
    assert examples.equal.tolist() == [False, True, False, False] and len(examples.truncated) == 4
    texts = [{"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected} for row in pairs]
    model, reference = moved(), tiny_lm.model("llama")
    trainer = trl.DPOTrainer(
        model,
        reference,
        trl.DPOConfig(str(tmp_path / "trl"), beta=BETA, use_cpu=True, report_to=[], bf16=False, max_length=7),
        train_dataset=dataset.from_list(texts),
        processing_class=tiny_lm.tokenizer(bos=False),
    )
    rows = [{name: row[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in trainer.train_dataset]
    theirs = trainer._compute_loss(trainer.model, trainer.data_collator(rows), return_outputs=False)
    before = evaluated(reference, examples).columns
    compared = examples.against(np.array([before[CHOSEN], before[REJECTED]]))
    ours = preference.losses(model, preference.collate(compared, range(4), 0))
    torch.testing.assert_close(ours.mean(), theirs)
    assert float(ours[1]) == pytest.approx(math.log(2), abs=1e-6)
    default = default_of(trainer)
    assert default is not None
    scores = evaluated(model, compared).per_item["preference_accuracy"]
    assert default.scores(trainer, dataset.from_list(texts)) == scores.tolist()
    assert scores[1] == 0.5 and {0.0, 1.0} >= {*scores[[0, 2, 3]]}


def test_orpo_is_that_of_trl(tmp_path: Path) -> None:
    """TRL's first term has the prompt's tokens too, and is averaged over the batch: prompts of one token and chosen
    answers of one length make it the paper's."""
    ORPOTrainer = import_module("trl.experimental.orpo").ORPOTrainer  # noqa: N806
    rows = [
        row._replace(prompt="<s>", chosen=" two three", rejected=" four " * (1 + place))
        for place, row in enumerate(tiny_preferences.rows(0, 0, 3))
    ]
    examples = encoded(list(rows), tmp_path, preference_loss="orpo", beta=BETA)
    model = moved()
    batch = preference.collate(examples, range(3), 0)
    ids = torch.nn.functional.pad(batch.inputs["input_ids"], (0, 1))
    labels = torch.nn.functional.pad(batch.labels, (1, 0), value=IGNORED)
    ids = torch.where(labels != IGNORED, labels, ids)  # with the last token, which is only a target
    mask = (ids != 0).long()
    inputs = {"concatenated_input_ids": ids, "concatenated_attention_mask": mask, "concatenated_labels": labels}
    bare = SimpleNamespace(
        beta=BETA,
        is_encoder_decoder=False,
        padding_value=0,
        label_pad_token_id=IGNORED,
        aux_loss_enabled=False,
        accelerator=SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=lambda values: values),
        concatenated_inputs=lambda *_args, **_options: inputs,
        get_batch_logps=ORPOTrainer.get_batch_logps,
    )
    bare.odds_ratio_loss = lambda *sums: ORPOTrainer.odds_ratio_loss(bare, *sums)
    bare.concatenated_forward = lambda *given: ORPOTrainer.concatenated_forward(bare, *given)
    theirs, metrics = ORPOTrainer.get_batch_loss_metrics(bare, model, {"chosen_labels": labels[:3]}, "train")
    ours = preference.loss(model, batch) / 3
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(gradients(model, ours), gradients(model, theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    found = evaluated(model, examples).metrics
    assert found["preference_accuracy"] == pytest.approx(float(metrics["rewards/accuracies"]))
    assert found["reward_margin"] == pytest.approx(float(metrics["rewards/margins"]), rel=1e-4)
