"""`VeznaCallback` in trainers of transformers: scores per item, refusals, and the script of the documentation."""

import json
import logging
import re
import runpy
import sys
import weakref
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

from app.domain.comparison.statistics.verdict import judge
from app.samples import samples as sample
from app.settings import ROOT
from tests.support.rows.external import FULL, LORA, SPEC, send_at_once, server
from tests.support.tiny import texts as tiny
from vezna import Client, VeznaCallback
from vezna.trainer import _fail_with_script as fail_with_script

__all__ = ["send_at_once", "server"]
pytestmark = pytest.mark.usefixtures("send_at_once")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model."""
    return tiny.save_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def study(server: str, request: pytest.FixtureRequest) -> int:
    """A declared study of its own for each test."""
    with Client(server) as client:
        return client.declare_study(SPEC | {"name": request.node.name[:120]}).id


def split(name: str) -> datasets.Dataset:
    """Rows of the tiny dataset with their tokens."""
    tokenizer = tiny.tokenizer()
    rows = [{"text": row.text, "label": row.label} for row in tiny.rows() if row.split == name]
    table = datasets.Dataset.from_list(rows)
    return table.map(lambda row: dict(tokenizer(row["text"])), remove_columns=[])


def trainer_of(base: Path, folder: Path, *, lora: bool = False, **changes: Any) -> Trainer:
    """A trainer of a tiny classifier for a few steps."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    if lora:
        model = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
    values = {"output_dir": str(folder / "out"), "max_steps": 4, "per_device_train_batch_size": 8, "logging_steps": 1}
    values |= {"learning_rate": 3e-3, "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    return Trainer(
        model=model,
        args=TrainingArguments(**(values | changes)),
        train_dataset=split("train"),
        eval_dataset=split("validation"),
        processing_class=tiny.tokenizer(),
        compute_metrics=lambda output: {"accuracy": float((output.predictions.argmax(-1) == output.label_ids).mean())},
    )


def stored(folder: Path) -> dict[str, Any]:
    """The end of the run whose reports are in a directory."""
    [file] = folder.glob("*.jsonl")
    [end] = [line for line in map(json.loads, file.read_text().splitlines()) if line["kind"] == "end"]
    return dict(end)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Of the log of `vezna`."""
    return [one.getMessage() for one in caplog.records if one.name == "vezna" and one.levelno >= logging.WARNING]


@pytest.mark.slow
def test_a_trainer_reports_each_test_item_and_what_the_run_was_made_of(
    server: str, study: int, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for lora in (False, True):
        trainer = trainer_of(base, tmp_path, lora=lora, eval_strategy="steps", eval_steps=2, seed=0)
        runs = tmp_path / str(lora)
        arm, test = LORA if lora else FULL, split("test")
        trainer.add_callback(VeznaCallback(trainer, study=study, arm=arm, test=test, url=server, directory=runs))
        trainer.train()
        trainer.model.eval()
        with torch.no_grad():
            own = [
                int(trainer.model(input_ids=torch.tensor([row["input_ids"]])).logits.argmax()) == row["label"]
                for row in test
            ]
        assert list(stored(runs)["item_scores"].values()) == [float(right) for right in own]
        assert 0 < sum(own) < len(own) or lora
    with Client(server) as client:
        full, adapted = [client.run(one.id) for one in client.external_study(study).runs]
        comparison = client.compare(collection=study)
    assert (full.status, full.step, full.total_steps) == ("succeeded", 4, 4)
    assert full.validation_score is not None
    facts, lora_facts = [(one.model_extra or {})["imported"] for one in (full, adapted)]
    assert facts["base_model_hash"] == lora_facts["base_model_hash"]
    assert facts["splits"] == lora_facts["splits"] and len(facts["splits"]["train"]) == 64
    assert (lora_facts["settings"]["peft.r"], facts["settings"]["learning_rate"]) == (4, 3e-3)
    assert "output_dir" not in facts["settings"] and "peft.r" not in facts["settings"]
    assert (facts["steps"], facts["precision"], facts["metric_version"]) == (4, "fp32", "argmax equals label, 1")
    assert lora_facts["trainable_parameters"] < facts["trainable_parameters"] < lora_facts["total_parameters"]
    assert set(facts["clocks"]) == {"train", "evaluate"} and {"torch", "transformers"} <= set(facts["versions"])
    known = {one.name for one in comparison.conditions if one.knowledge == "equal"}
    assert {"metric", "metric_version", "test_items", "splits", "base_model", "steps", "precision"} <= known
    assert errors(caplog) == []


def test_the_groups_of_the_test_set_are_reported_with_its_scores(
    server: str, study: int, base: Path, tmp_path: Path
) -> None:
    trainer, test = trainer_of(base, tmp_path, seed=0), split("test")
    arm = {"study": study, "arm": FULL, "url": server, "directory": tmp_path / "runs"}
    trainer.add_callback(VeznaCallback(trainer, test=test, group=[n // 2 for n in range(len(test))], **arm))
    trainer.train()
    end = stored(tmp_path / "runs")
    assert end["item_groups"].keys() == end["item_scores"].keys()
    assert len(set(end["item_groups"].values())) == len(test) // 2


@pytest.mark.by_day
@pytest.mark.parametrize(
    ("arguments", "changes", "says"),
    [
        ({"train_sampling_strategy": "group_by_length"}, {}, "in an order of its own (group_by_length?)"),
        ({}, {"score": lambda output: [0.5]}, "1 scores were given for 24 test items"),
        ({}, {"item_scores": lambda trainer: 1 / 0}, "on_train_end failed (ZeroDivisionError"),
        ({}, {"test": [{"text": "a cat", "label": 0}]}, "Trainer.predict(test) failed (ValueError: "),
    ],
)
def test_a_score_that_is_of_no_known_item_is_refused_and_the_training_ends_well(
    server: str, study: int, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    arguments: dict[str, Any], changes: dict[str, Any], says: str,
) -> None:  # fmt: skip
    trainer = trainer_of(base, tmp_path, max_steps=1, **arguments)
    values = {"study": study, "arm": FULL, "test": split("test"), "url": server, "seed": 0, "directory": tmp_path / "r"}
    callback = VeznaCallback(trainer, **(values | changes))
    trainer.add_callback(callback)
    assert trainer.train().global_step == 1
    assert says in " ".join(errors(caplog))
    assert callback.run is not None
    callback.run.leave()
    with Client(server) as client:
        assert [one.status for one in client.external_study(study).runs] == ["running"]


def test_only_an_exception_out_of_the_training_fails_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Training:
        def train(self, error: BaseException) -> None:
            raise error

    def last(error: BaseException, trained: Training, *, wrapped: bool = False) -> BaseException:
        try:
            try:
                trained.train(error)
            except Exception as cause:
                if wrapped:
                    raise SystemError("the launcher failed") from cause
                raise
        except BaseException as caught:
            return caught
        raise AssertionError

    whys: list[str] = []
    trainer = Training()
    callback: Any = type("Callback", (), {})()
    callback.trainer, callback.run = trainer, type("Tracked", (), {"fail": staticmethod(whys.append)})()
    for error in (
        last(KeyboardInterrupt(), trainer),
        last(RuntimeError("another trainer"), Training()),
        ValueError("raised nowhere"),
    ):
        monkeypatch.setattr(sys, "last_value", error, raising=False)
        fail_with_script(weakref.ref(callback))
    assert whys == []
    monkeypatch.setattr(sys, "last_value", last(MemoryError("full"), trainer), raising=False)
    fail_with_script(weakref.ref(callback))
    monkeypatch.setattr(sys, "last_value", last(RuntimeError("cause"), trainer, wrapped=True), raising=False)
    fail_with_script(weakref.ref(callback))
    assert whys == ["MemoryError: full", "SystemError: the launcher failed"]
    del callback.run
    fail_with_script(weakref.ref(callback))  # the script's end is as it would have been
    assert len(whys) == 2


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"score": lambda output: [0.5] * len(output.predictions)}])
def test_a_collator_that_reorders_rows_is_noticed(
    server: str, study: int, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    trainer = trainer_of(base, tmp_path, max_steps=1)
    collate = trainer.data_collator
    trainer.data_collator = lambda rows: collate(rows[::-1])
    values = {"study": study, "arm": FULL, "test": split("test"), "url": server, "seed": 0, "directory": tmp_path / "r"}
    callback = VeznaCallback(trainer, **(values | changes))
    trainer.add_callback(callback)
    trainer.train()
    assert "not those of the test set in its order" in " ".join(errors(caplog))
    assert callback.run is not None
    callback.run.leave()


@pytest.mark.slow
def test_a_test_set_without_labels_is_scored_with_a_warning_about_its_order(
    server: str, study: int, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def half(output: Any) -> list[float]:
        return [0.5 for _ in output.predictions]

    trainer = trainer_of(base, tmp_path, max_steps=1)
    test = split("test").remove_columns("label")
    trainer.add_callback(
        VeznaCallback(trainer, study=study, arm=FULL, test=test, score=half, url=server, seed=0, directory=tmp_path)
    )
    trainer.train()
    [warning] = errors(caplog)
    assert "only the trainer's sampler says which item a score is of" in warning
    assert set(stored(tmp_path)["item_scores"].values()) == {0.5}


@pytest.mark.slow
def test_a_cancel_ends_the_training_after_its_step(server: str, study: int, base: Path, tmp_path: Path) -> None:
    trainer = trainer_of(base, tmp_path, max_steps=5000)
    trainer.add_callback(
        VeznaCallback(trainer, study=study, arm=FULL, test=split("test"), url=server, seed=0, directory=tmp_path / "r")
    )

    class Person(VeznaCallback):
        """Cancels the run once it is known."""

        def __init__(self) -> None:
            self.asked = False

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None: ...
        def on_log(self, *args: Any, **kwargs: Any) -> None: ...
        def on_train_end(self, *args: Any, **kwargs: Any) -> None: ...

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            with Client(server) as client:
                if not self.asked and (runs := client.external_study(study).runs):
                    client.cancel_run(runs[0].id)
                    self.asked = True

    trainer.add_callback(Person())
    assert trainer.train().global_step < 5000
    with Client(server) as client:
        assert [one.status for one in client.external_study(study).runs] == ["cancelled"]


@pytest.mark.nightly
def test_the_script_of_the_documentation_ends_in_veznas_own_verdict(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VEZNA_URL", server)
    _labels, rows = sample.headlines()
    for name, most in (("train", 128), ("test", 80)):
        chosen = [row for row in rows if row.split == name][:most]
        (tmp_path / f"{name}.jsonl").write_text(
            "\n".join(json.dumps({"text": row.text, "label": row.label}) for row in chosen)
        )
    page = (ROOT / "docs" / "elsewhere.md").read_text()
    script = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    mine = [line for line in script.splitlines() if "Vezna" in line]
    assert len(mine) == 2
    (tmp_path / "script.py").write_text(
        script.replace("sentence-transformers/all-MiniLM-L6-v2", str(sample.model_directory()))
    )
    [declaration] = re.findall(
        r"curl --fail-with-body --json '(\{.*?\})' \$ADDRESS/api/v1/external-studies\n", page, re.S
    )
    with Client() as client:
        study = client.declare_study(json.loads(declaration) | {"seeds": [0, 1]})
        for seed in (0, 1):
            for arm in ("full", "LoRA r=8"):
                monkeypatch.setattr(sys, "argv", ["script.py", arm, str(seed)])
                runpy.run_path(str(tmp_path / "script.py"), run_name="__main__")
        comparison = client.compare(collection=study.id)
        assert [run.status for run in client.external_study(study.id).runs] == ["succeeded"] * 4
    scores: dict[str, list[list[float]]] = {"full": [], "LoRA r=8": []}
    for file in sorted((tmp_path / "vezna-runs").glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
        known = [json.loads(line) for line in file.read_text().splitlines()]
        items = next(line["item_scores"] for line in known if line["kind"] == "end")
        arm = next(line["arm"] for line in known if line["kind"] == "opening")
        scores[arm].append([score for _name, score in sorted(items.items())])
    own = judge({arm: np.array(of_seeds) for arm, of_seeds in scores.items()}, "full", comparison.margin)["LoRA r=8"]
    verdict = next(arm.verdict for arm in comparison.arms if arm.title == "LoRA r=8")
    assert verdict is not None and own.difference is not None
    assert verdict.kind == own.kind.value
    assert (verdict.low, verdict.high) == pytest.approx((own.difference.low, own.difference.high))
    assert {one.kind for one in comparison.confounders if one.effect == "verdict"} == set()
    equal = {one.name for one in comparison.conditions if one.knowledge == "equal"}
    assert {"test_items", "splits", "metric_version", "base_model", "steps", "torch", "peft"} <= equal
    assert errors(caplog) == []
