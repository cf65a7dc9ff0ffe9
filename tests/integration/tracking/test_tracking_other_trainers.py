"""`VeznaCallback` in trainers of TRL and sentence-transformers: the scripts of the documentation, on tiny models."""

import importlib
import json
import logging
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset

from app.settings import ROOT
from tests.support.rows.external import FULL, LORA, SPEC, send_at_once, server
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import pairs as tiny_pairs
from tests.support.tiny import texts as tiny
from vezna import Client, VeznaCallback
from vezna.scores import default as default_scores
from vezna.scores.items import item_names
from vezna.scores.scoring import NoScores

__all__ = ["send_at_once", "server"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("send_at_once")]
PROMPTED = [{"prompt": row.prompt, "completion": row.completion} for row in tiny_lm.pairs()]
PREFERRED = [
    {"prompt": row.prompt, "chosen": row.completion, "rejected": other.completion}
    for row, other in zip(tiny_lm.pairs(), tiny_lm.pairs()[1:], strict=False)
]
RATED = [
    {"prompt": pair["prompt"], "completion": pair["chosen" if place % 2 else "rejected"], "label": bool(place % 2)}
    for place, pair in enumerate(PREFERRED)
]
SEARCHED = [{"query": row.query, "passage": row.passage} for row in tiny_pairs.rows()]
BASES = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": "llama",
    "HuggingFaceTB/SmolLM2-135M": "llama",
    "sentence-transformers/all-MiniLM-L6-v2": "encoder",
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny base models by their kind."""
    folder = tmp_path_factory.mktemp("bases")
    return {"llama": tiny_lm.save_model(folder / "llama", "llama"), "encoder": tiny.save_model(folder / "encoder")}


def script_of(study: str, bases: dict[str, Path]) -> str:
    """The script of the documentation that reports to a study, with a tiny model."""
    page = (ROOT / "docs" / "elsewhere.md").read_text(encoding="utf-8")
    [script] = [text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if f'study="{study}"' in text]
    assert len([line for line in script.splitlines() if "Vezna" in line]) == 2
    for name, kind in BASES.items():
        script = script.replace(f'"{name}"', repr(str(bases[kind])))
    return script


def run_script(study: str, bases: dict[str, Path], rows: list[dict[str, Any]], arm: str) -> Any:
    """The trainer of the documentation's script for a study, after it ran in the present directory."""
    for name, chosen in (("train", rows[:-20]), ("test", rows[-20:])):
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, chosen)), encoding="utf-8")
    Path("script.py").write_text(script_of(study, bases), encoding="utf-8")
    sys.argv[1:] = [arm, "0"]
    return runpy.run_path("script.py", run_name="__main__")["trainer"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Of the log of `vezna`."""
    return [one.getMessage() for one in caplog.records if one.name == "vezna" and one.levelno >= logging.WARNING]


def token_accuracy(trainer: Any) -> float:
    """TRL's own mean over batches of one item."""
    return float(trainer.evaluate(Dataset.from_list(PROMPTED[-20:]))["eval_mean_token_accuracy"])


def preference_accuracy(trainer: Any) -> float:
    """TRL's own, of all pairs at once."""
    return float(trainer.evaluate(Dataset.from_list(PREFERRED[-20:]))["eval_rewards/accuracies"])


def reward_accuracy(trainer: Any) -> float:
    """TRL's own, of all pairs."""
    return float(trainer.evaluate(Dataset.from_list(PREFERRED[-20:]))["eval_accuracy"])


def moved_right(trainer: Any) -> float:
    """By the sign of TRL's own reward of each answer."""
    rows = trainer._prepare_dataset(Dataset.from_list(RATED[-20:]), trainer.processing_class, trainer.args, "test")
    right = 0
    for row in rows:
        trainer._metrics["eval"].clear()
        trainer.prediction_step(trainer.model, trainer.data_collator([row]), True)
        [reward] = trainer._metrics["eval"]["rewards/chosen" if row["label"] else "rewards/rejected"]
        right += reward > 0 if row["label"] else reward < 0
    return right / len(rows)


def accuracy_at_1(trainer: Any) -> float:
    """By the evaluator of sentence-transformers."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator  # noqa: PLC0415

    rows = dict(enumerate(SEARCHED[-20:]))
    passages = sorted({row["passage"] for row in rows.values()})
    search = InformationRetrievalEvaluator(
        {str(place): row["query"] for place, row in rows.items()},
        {text: text for text in passages},
        {str(place): {row["passage"]} for place, row in rows.items()},
        accuracy_at_k=[1], mrr_at_k=[1], ndcg_at_k=[1], map_at_k=[1], precision_recall_at_k=[1],
    )  # fmt: skip
    return float(search(trainer.model)["cosine_accuracy@1"])


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("study", "rows", "own_score"),
    [
        ("SFT elsewhere", PROMPTED, token_accuracy),
        ("DPO elsewhere", PREFERRED, preference_accuracy),
        ("Reward elsewhere", PREFERRED, reward_accuracy),
        ("KTO elsewhere", RATED, moved_right),
        ("Search elsewhere", SEARCHED, accuracy_at_1),
    ],
)
def test_the_scripts_of_the_documentation_end_in_a_verdict_on_the_trainers_own_metric(
    server: str, bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, study: str, rows: list[dict[str, Any]], own_score: Callable[[Any], float],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VEZNA_URL", server)
    monkeypatch.setattr(sys, "argv", ["script.py"])
    with Client() as client:
        declared = client.declare_study(SPEC | {"name": study, "seeds": [0]})
        trainers = {arm: run_script(study, bases, rows, arm) for arm in (FULL, LORA)}
        runs = [client.run(one.id) for one in client.external_study(declared.id).runs]
        comparison = client.compare(collection=declared.id)
    assert [run.status for run in runs] == ["succeeded"] * 2
    arms = {arm.title: arm for arm in comparison.arms}
    assert (lora_verdict := arms[LORA].verdict) is not None and lora_verdict.kind
    for arm, trainer in trainers.items():
        trainer.args.per_device_eval_batch_size = 1
        assert arms[arm].score.mean == pytest.approx(own_score(trainer), abs=1e-6)
    assert {one.kind for one in comparison.confounders if one.effect == "verdict"} == set()
    equal = {one.name for one in comparison.conditions if one.knowledge == "equal"}
    assert {"test_items", "splits", "metric_version", "base_model", "steps", "precision"} <= equal
    facts = [(run.model_extra or {})["imported"] for run in runs]
    assert {one["settings"].get("peft.r") for one in facts} == {None, 8}
    assert {one["trainable_parameters"] < one["total_parameters"] for one in facts} == {False, True}
    assert warnings(caplog) == []


def sft_trainer(base: Path, folder: Path, **changes: Any) -> Any:
    """A trainer of one step on packed or shuffled rows."""
    import trl  # noqa: PLC0415  which takes seconds

    arguments = {"output_dir": str(folder), "max_steps": 1, "bf16": False, "report_to": "none", "save_strategy": "no"}
    arguments |= {"max_length": 16, "disable_tqdm": True, "per_device_train_batch_size": 2, **changes}
    return trl.SFTTrainer(
        model=str(base), args=trl.SFTConfig(**arguments), train_dataset=Dataset.from_list(PROMPTED[:-20])
    )


@pytest.mark.nightly
def test_packed_rows_are_the_same_data_for_every_seed_if_the_rows_before_are_given(
    server: str, bases: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hashes: dict[bool, set[str]] = {}
    with Client(server) as client:
        for given in (True, False):
            study = client.declare_study(SPEC | {"name": f"packed, given {given}"}).id
            for seed in (0, 1):
                folder = tmp_path / f"{given}-{seed}"
                packed = {"packing": True, "packing_strategy": "wrapped", "shuffle_dataset": True, "seed": seed}
                trainer = sft_trainer(bases["llama"], folder, **packed)
                rows = {"train": Dataset.from_list(PROMPTED[:-20])} if given else {}
                test = Dataset.from_list(PROMPTED[-20:])
                trainer.add_callback(
                    VeznaCallback(trainer, study=study, arm=FULL, test=test, url=server, directory=folder, **rows)
                )
                trainer.train()
            runs = [client.run(one.id) for one in client.external_study(study).runs]
            assert [run.status for run in runs] == ["succeeded"] * 2
            hashes[given] = {(run.model_extra or {})["imported"]["splits"]["train"] for run in runs}
            says = [text for text in warnings(caplog) if "Give the rows before packing as train=…" in text]
            assert len(says) == (0 if given else 2)
    assert (len(hashes[True]), len(hashes[False])) == (1, 2)


def test_items_keep_their_order_and_one_that_is_cut_away_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    test = Dataset.from_list(PROMPTED[-20:])
    plain, shuffled = [
        default_scores.default_of(trainer).scores(trainer, test)
        for trainer in (sft_trainer(bases["llama"], tmp_path, shuffle_dataset=on) for on in (False, True))
    ]
    assert shuffled == plain and len(set(plain)) > 1
    short = sft_trainer(bases["llama"], tmp_path, max_length=6)
    with pytest.raises(NoScores, match=r"of the 20 test items have no token to score within max_length=6"):
        default_scores.default_of(short).scores(short, test)


def preference_trainer(name: str, base: Path, folder: Path, **changes: Any) -> Any:
    """A trainer of one step, of pairs without a reference model or of prompts."""
    module = importlib.import_module("trl" if name == "GRPO" else f"trl.experimental.{name.lower()}")
    arguments = {"output_dir": str(folder), "max_steps": 1, "bf16": False, "report_to": "none", "save_strategy": "no"}
    arguments |= {"disable_tqdm": True, "per_device_train_batch_size": 2, "learning_rate": 1e-3, **changes}
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    return getattr(module, f"{name}Trainer")(
        model=model,
        args=getattr(module, f"{name}Config")(**arguments),
        train_dataset=Dataset.from_list(PREFERRED[:8]),
        processing_class=transformers.AutoTokenizer.from_pretrained(base),
        **(
            {"reward_funcs": lambda completions, **_rows: [float(len(text)) for text in completions]}
            if name == "GRPO"
            else {}
        ),
    )


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "loss"), [("CPO", "sigmoid"), ("CPO", "simpo"), ("ORPO", "")])
def test_pairs_are_scored_without_a_reference_model_as_trl_measures_them(
    bases: dict[str, Path], tmp_path: Path, name: str, loss: str
) -> None:
    tie = PREFERRED[-1] | {"rejected": PREFERRED[-1]["chosen"]}
    test, options = Dataset.from_list([*PREFERRED[-20:], tie]), {"loss_type": loss, "cpo_alpha": 0.0} if loss else {}
    trainer = preference_trainer(name, bases["llama"], tmp_path, max_length=64, **options)
    trainer.train()
    scores = default_scores.default_of(trainer).scores(trainer, test)
    rows = Dataset.from_list(PREFERRED[:8])
    assert "chosen_labels" in trainer.train_dataset.column_names and item_names(trainer.train_dataset) == item_names(
        rows
    )
    logps = [log_probabilities(trainer, row) for row in PREFERRED[-20:]]
    averaged = name == "ORPO" or loss == "simpo"
    expected = [
        float(chosen.mean() > rejected.mean() if averaged else chosen.sum() > rejected.sum())
        for chosen, rejected in logps
    ]
    assert scores == [*expected, 0.5] and set(expected) == {0.0, 1.0}
    trainer.max_length = trainer.args.max_length = 4
    with pytest.raises(NoScores, match="test items have no token to score within max_length=4"):
        default_scores.default_of(trainer).scores(trainer, test)


def log_probabilities(trainer: Any, pair: dict[str, str]) -> list[torch.Tensor]:
    """Of the tokens of the chosen and of the rejected answer, its end included."""
    tokenizer, model, found = trainer.processing_class, trainer.model.eval(), []
    prompt = tokenizer(pair["prompt"])["input_ids"]
    for name in ("chosen", "rejected"):
        whole = tokenizer(pair["prompt"] + pair[name] + tokenizer.eos_token, return_tensors="pt")
        with torch.no_grad():
            each = model(**whole).logits[0, :-1].log_softmax(-1)
        found.append(each.gather(-1, whole["input_ids"][0, 1:, None])[len(prompt) - 1 :, 0])
    return found


@pytest.mark.nightly
def test_grpo_is_refused_by_name_before_it_trains_and_is_scored_by_a_function_of_the_script(
    server: str, bases: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test = Dataset.from_list(PREFERRED[-20:])
    with Client(server) as client:
        study = client.declare_study(SPEC | {"name": "GRPO elsewhere"}).id
        for arm, scored in ((FULL, {}), (LORA, {"item_scores": lambda _trainer: [1.0, 0.5] * 10})):
            trainer = preference_trainer(
                "GRPO",
                bases["llama"],
                tmp_path,
                num_generations=2,
                max_completion_length=2,
                **{"generation_batch_size": 2},
            )
            where = {"url": server, "directory": tmp_path / arm, "seed": 0}
            trainer.add_callback(VeznaCallback(trainer, study=study, arm=arm, test=test, **scored, **where))
            trainer.train()
        runs = {one.arm: client.run(one.id) for one in client.external_study(study).runs}
    refused = [text for text in warnings(caplog) if "GRPOTrainer learns from answers that it generates" in text]
    assert len(refused) == 2 and all("Give item_scores=…" in text for text in refused)
    assert (runs[FULL].score, runs[LORA].score) == (None, 0.75)
