"""How trainers of TRL score a test item: by what they measure in an evaluation, of each row by itself.

SFTTrainer      token accuracy: the share of the tokens counted in the loss that the model predicts correctly, given the
                true tokens before them; TRL's `mean_token_accuracy`
DPOTrainer      preference accuracy: whether the reward of the chosen answer is above that of the rejected one, both
                against the reference model; TRL's `rewards/accuracies`
RewardTrainer   the same of the model's own reward; TRL's `accuracy`
CPOTrainer      the same without a reference model: the reward is the log probability of the answer, in CPO summed over
ORPOTrainer     its tokens unless the loss averages it, in ORPO averaged; TRL's `rewards/accuracies`

A pair is scored 1, 0, or ½ at a tie: two equal rewards, which count as wrong in TRL, or two answers that are the same
tokens within `max_length`, whose rewards may differ in the last digits.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from vezna.scores.scoring import DefaultScore, NoScores, evaluating

PLACE = "vezna_place"
"""Column with the place of a row in the test set while the trainer prepares it: it may drop and shuffle rows."""
IGNORED = -100
"""The label of a token that the loss does not count."""
AVERAGED = ("ipo", "simpo")
"""Losses of CPO for which the log probability of an answer is averaged over its tokens."""


def _rows(test: Any, _columns: Sequence[str] | None) -> Any:
    return test


def _token_accuracy(trainer: Any, test: Any) -> list[float]:
    if getattr(trainer, "_skip_prepare_dataset", False):
        rows = _in_order(trainer, _numbered(test))
    else:
        more = {"packing": False, "formatting_func": getattr(trainer, "_formatting_func", None), "dataset_name": "test"}
        rows = _prepared(trainer, test, **more)
    for row in rows:
        if not (trainer.data_collator([row])["labels"][0, 1:] != IGNORED).any():
            raise NoScores(_nothing_left(trainer, 1, len(rows)))
    return [measured["mean_token_accuracy"] for _batch, measured in _measured(trainer, rows)]


def _preference_accuracy(trainer: Any, test: Any) -> list[float]:
    if getattr(trainer, "precompute_ref_logps", False):
        raise NoScores(
            "with precompute_ref_log_probs=True the reference model is gone when the test pairs are scored. Set it to "
            "False, or give item_scores=…, a function of the trainer that scores each pair"
        )
    return _compared(trainer, _prepared(trainer, test, dataset_name="test"), "rewards/margins")


def _reward_accuracy(trainer: Any, test: Any) -> list[float]:
    return _compared(trainer, _prepared(trainer, test, dataset_name="test"), "margin")


def _likelihood_accuracy(trainer: Any, test: Any) -> list[float]:
    """CPO and ORPO prepare their rows where they are made, so it is done here in the same way."""
    if trainer.is_encoder_decoder:
        raise NoScores(
            f"Vezna does not score pairs of {type(trainer).__name__} with an encoder-decoder. Give item_scores=…, a "
            "function of the trainer that scores each pair"
        )
    templates = import_module("trl.data_utils")
    rows = _numbered(test).map(templates.maybe_extract_prompt)
    rows = rows.map(templates.maybe_apply_chat_template, fn_kwargs={"processing_class": trainer.processing_class})
    rows = _in_order(trainer, rows.map(trainer.tokenize_row))
    answers = [[row[f"{name}_labels"] for name in ("chosen", "rejected")] for row in rows]
    if empty := sum(any(set(labels) <= {IGNORED} for labels in pair) for pair in answers):
        raise NoScores(_nothing_left(trainer, empty, len(rows)))
    return _compared(trainer, rows, "eval_rewards/margins", trainer._stored_metrics)


def _compared(trainer: Any, pairs: Sequence[Any], margin: str, store: Any = None) -> list[float]:
    """1, ½ or 0 for each pair, by what TRL measures as the margin between its rewards."""
    return [
        0.5 if _same_tokens(batch) or not measured[margin] else float(measured[margin] > 0)
        for batch, measured in _measured(trainer, pairs, store)
    ]


def _same_tokens(batch: Mapping[str, Any]) -> bool:
    """Whether the two answers of a batch of one pair are the same tokens, behind the same prompt."""
    if "chosen_input_ids" in batch:  # CPO and ORPO
        sides = [(batch[f"chosen_{name}"], batch[f"rejected_{name}"]) for name in ("input_ids", "labels")]
    else:
        sides = [tuple(batch[name]) for name in ("input_ids", "attention_mask", "completion_mask") if name in batch]
    return all(chosen.equal(rejected) for chosen, rejected in sides)


def _measured(
    trainer: Any, rows: Sequence[Any], store: Any = None
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, float]]]:
    """Each row as a batch, and what TRL measures for it, as in its own evaluation: without full logits, where it avoids
    them."""
    measured = (trainer._metrics if store is None else store)["eval"]
    with evaluating(trainer.model):
        for row in rows:
            measured.clear()
            batch = trainer.data_collator([row])
            trainer.prediction_step(trainer.model, batch, True)
            yield batch, {name: float(values[-1]) for name, values in measured.items()}
    measured.clear()


def _prepared(trainer: Any, test: Any, **more: Any) -> list[Mapping[str, Any]]:
    """The rows of a test set as the trainer prepares its own, in their order."""
    if not hasattr(trainer, "_prepare_dataset") or getattr(trainer, "_is_vision_dataset", False):
        raise NoScores(
            f"Vezna does not know how {type(trainer).__name__} of this version prepares its rows. Give item_scores=…, "
            "a function of the trainer that scores each item"
        )
    numbered = _numbered(test)
    prepared = trainer._prepare_dataset(numbered, trainer.processing_class, trainer.args, **more)
    if len(prepared) < len(numbered):
        raise NoScores(_nothing_left(trainer, len(numbered) - len(prepared), len(numbered)))
    return _in_order(trainer, prepared)


def _numbered(test: Any) -> Any:
    if not hasattr(test, "add_column"):
        raise NoScores("the test set is no datasets.Dataset. Give test=datasets.Dataset.from_list(rows)")
    return test.add_column(PLACE, list(range(len(test))))


def _in_order(trainer: Any, numbered: Any) -> list[Mapping[str, Any]]:
    """The rows of a numbered dataset, with the columns that the trainer's data collator takes."""
    ordered = numbered.sort(PLACE)
    return list(trainer._remove_unused_columns(ordered.remove_columns(PLACE), "test"))


def _nothing_left(trainer: Any, items: int, of_all: int) -> str:
    return (
        f"at least {items} of the {of_all} test items have no token to score within "
        f"max_length={trainer.args.max_length}. Raise max_length, or leave them out of the test set in every run"
    )


def _tokens_counted(trainer: Any) -> str:
    only = "completion" if getattr(trainer, "completion_only_loss", False) else "all"
    only = "assistant" if getattr(trainer.args, "assistant_only_loss", False) else only
    return f"token accuracy given the true tokens, 1: {only} tokens {_within(trainer)}"


def _rewards_compared(trainer: Any) -> str:
    alpha = getattr(trainer.args, "ld_alpha", None)
    desensitized = "" if alpha is None else f", ld_alpha={alpha}"
    reference = _reference(trainer)
    return f"preference accuracy against the reference model, 2: {_within(trainer)}, {reference}{desensitized}"


def _own_rewards_compared(trainer: Any) -> str:
    return f"preference accuracy of the reward model, 1: pairs within {trainer.args.max_length}"


def _likelihoods_compared(trainer: Any) -> str:
    averaged = getattr(trainer, "loss_type", AVERAGED[0]) in AVERAGED  # ORPO always averages
    way = "mean" if averaged else "summed"
    return f"preference accuracy by {way} log probability, 1: {_within(trainer)}"


def _within(trainer: Any) -> str:
    return f"within {trainer.args.max_length}, {getattr(trainer.args, 'truncation_mode', 'keep_start')}"


def _reference(trainer: Any) -> str:
    """Which model TRL's rewards are relative to. With PEFT it is the model without its adapter, and for full
    fine-tuning what the model was loaded from: the same one."""
    args, reference = trainer.args, getattr(trainer, "ref_model", None)
    if getattr(args, "sync_ref_model", False):
        return f"reference moved by {args.ref_model_mixup_alpha} every {args.ref_model_sync_steps} steps"
    if reference is None:
        copied = "ref" in (getattr(trainer.model, "peft_config", None) or {})
        return "reference: its first adapter" if copied else "reference: its base model"
    own, other = (getattr(model.config, "_name_or_path", "") for model in (trainer.model, reference))
    return "reference: its base model" if own and own == other else f"reference: {other or 'given'}"


_BY_LIKELIHOOD = DefaultScore("rewards/accuracies", _likelihoods_compared, _rows, _likelihood_accuracy)
KINDS = {
    "SFTTrainer": DefaultScore("mean_token_accuracy", _tokens_counted, _rows, _token_accuracy),
    "DPOTrainer": DefaultScore("rewards/accuracies", _rewards_compared, _rows, _preference_accuracy),
    "RewardTrainer": DefaultScore("accuracy", _own_rewards_compared, _rows, _reward_accuracy),
    "CPOTrainer": _BY_LIKELIHOOD,
    "ORPOTrainer": _BY_LIKELIHOOD,
}
"""By the name of the trainer's class."""
