"""Inspecting a base model: whatever a stranger's configuration does, the worker gets a sentence and survives."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from app.domain.models.base_model import ModelFacts
from app.settings import ROOT
from tests.support.tiny import texts as tiny
from worker.children.child import EXIT_ABANDONED, PARENT
from worker.inspection import host
from worker.inspection.host import inspect_model

SCRIPT = "import sys, json, time, os; sys.stdin.readline()"


def command(script: str) -> tuple[str, ...]:
    return sys.executable, "-c", f"{SCRIPT}\n{script}"


@pytest.fixture(autouse=True)
def _from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.nightly
def test_a_model_is_inspected(tmp_path: Path) -> None:
    BertModel(tiny.config()).save_pretrained(tmp_path)
    facts = inspect_model(str(tmp_path), "")
    assert isinstance(facts, ModelFacts) and facts.architecture == "BertModel"


@pytest.mark.nightly
def test_a_million_layers_are_refused_before_they_are_built(tmp_path: Path) -> None:
    BertConfig(**tiny.config().to_dict() | {"num_hidden_layers": 1_000_000}).save_pretrained(tmp_path)
    assert inspect_model(str(tmp_path), "") == "num_hidden_layers is 1000000. Use at most 1000."


@pytest.mark.slow
def test_a_thousand_wide_layers_take_seconds(tmp_path: Path) -> None:
    """14 s of a core, 6 of them to import torch; to fill tensors without memory and to collect garbage took more."""
    sizes = {"num_hidden_layers": 1000, "hidden_size": 16384, "intermediate_size": 65536, "num_attention_heads": 128}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"], **sizes}))
    save_file({"none": torch.zeros(1)}, tmp_path / "model.safetensors")
    before = os.times()
    facts = inspect_model(str(tmp_path), "")
    after = os.times()
    assert isinstance(facts, ModelFacts) and facts.layers == 1000
    assert facts.parameters == 3_222_215_442_432
    assert after.children_user + after.children_system - before.children_user - before.children_system < 22


@pytest.mark.nightly
def test_fifty_million_labels_hit_the_memory_limit_and_not_the_machine(tmp_path: Path) -> None:
    config = tiny.config().to_dict() | {"num_labels": 50_000_000, "architectures": ["BertModel"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"none": torch.zeros(1)}, tmp_path / "model.safetensors")
    answer = inspect_model(str(tmp_path), "")
    assert answer == "Inspecting this model takes more than 4 GiB of memory."


@pytest.mark.by_day
@pytest.mark.parametrize(
    ("script", "part"),
    [
        ("sys.exit(3)", "ended with status 3"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("print('hello', flush=True)", "cannot be read"),
        ("print(json.dumps({'error': 'No such model.'}), flush=True)", "No such model."),
        ("time.sleep(60)", "took longer than 2 s"),
    ],
)
def test_a_process_that_misbehaves_is_a_sentence(monkeypatch: pytest.MonkeyPatch, script: str, part: str) -> None:
    monkeypatch.setattr(host, "INSPECTION_SECONDS", 2.0)
    answer = inspect_model("anywhere", "", command=command(script))
    assert isinstance(answer, str) and part in answer
    assert not [
        child for child in psutil.Process().children() if "-c" in child.cmdline() and SCRIPT in child.cmdline()[2]
    ]


@pytest.mark.slow
def test_it_dies_with_its_worker() -> None:
    program = (
        "import time; from worker.children.host import Child; from worker.inspection.host import COMMAND;"
        "child = Child('inspection', COMMAND); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT) as worker:
        assert worker.stdout is not None
        child = psutil.Process(int(worker.stdout.readline()))
        time.sleep(1.0)  # by now it has asked to die with its parent; if not, the end of stdin ends it
        worker.kill()
        child.wait(30)


def _child(code: str, **environment: str) -> int:
    command = [sys.executable, "-c", f"from worker.children.child import *; import time; {code}"]
    done = subprocess.run(command, input=b"{}\n", cwd=ROOT, env=os.environ | environment, check=False, timeout=60)
    return done.returncode


@pytest.mark.slow
def test_a_child_for_one_request_has_a_time_limit_of_its_own() -> None:
    status = _child("answer_one_request(lambda request: str(time.sleep(120)), 1 << 32, 1)")
    assert status == -signal.SIGALRM


def test_a_child_whose_parent_died_before_it_began_ends_at_once() -> None:
    assert _child("die_with_parent(); time.sleep(120)", **{PARENT: "1"}) == EXIT_ABANDONED
