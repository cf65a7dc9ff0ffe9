"""The commands of the tutorials, executed as they are written, on small files, with two seeds and with a tiny language
model."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from app.domain.models.base_model import SAMPLE_LANGUAGE_MODEL
from tests.support.servers.running_stack import await_model, prepare, start
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from tests.support.tutorials import blocks, shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def with_seeds(seeds: str, text: str) -> str:
    """A block with fewer seeds than its three: each is a run per arm, in a process of its own."""
    assert text.count("[0, 1, 2]") == 1
    return text.replace("[0, 1, 2]", seeds)


@pytest.mark.nightly
def test_a_file_goes_to_a_verdict_by_curl_and_by_vezna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("curl"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("The tutorial's commands need curl.")
    rows = [f"{row.text} {n},{row.label}" for n, row in enumerate(tiny.rows())]
    (tmp_path / "headlines.csv").write_text("\n".join(["headline,topic", *rows]), encoding="utf-8")
    [study] = blocks("tutorial.md", "yaml")
    (tmp_path / "study.yaml").write_text(with_seeds("[0]", study), encoding="utf-8")
    register, by_curl, by_vezna = blocks("tutorial.md", "sh")
    by_curl = with_seeds("[0, 1]", by_curl)
    with start(prepare(tmp_path, monkeypatch), models=()) as running:
        url = running.stack.url
        shell(tmp_path, register, url)
        await_model(running.api, "all-MiniLM-L6-v2")
        said = shell(tmp_path, by_curl, url)
        arms = json.loads(said.splitlines()[-1])["arms"]
        assert [arm["title"] for arm in arms] == ["full", "LoRA r=8", "head only"]
        assert all(arm["score"] and arm["verdict"]["sentence"] for arm in arms[1:])
        said = shell(tmp_path, by_vezna, url)
        assert "headlines@1 is ready." in said and "LoRA r=8" in said
        assert running.api.get("/studies/2").json()["status"] == "finished"


@pytest.mark.nightly
def test_a_language_model_learns_the_replies_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"{row.prompt} {n}", "completion": row.completion} for n, row in enumerate(tiny_lm.pairs())]
    (tmp_path / "replies.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    [study] = blocks("language-model.md", "yaml")
    (tmp_path / "replies.yaml").write_text(study, encoding="utf-8")
    model_and_data, estimate, submit, use = blocks("language-model.md", "sh")
    settings = prepare(tmp_path, monkeypatch)
    tiny_lm.save_model(tmp_path / SAMPLE_LANGUAGE_MODEL, "llama")
    with start(settings, models=(SAMPLE_LANGUAGE_MODEL,)) as running:
        url = running.stack.url
        register, data = model_and_data.splitlines()
        assert register == "vezna models add --sample smollm2"  # a tiny one has its name here
        assert "replies@1 is ready." in shell(tmp_path, data, url)
        assert "LoRA r=16" in shell(tmp_path, estimate, url)
        assert "LoRA r=16" in shell(tmp_path, submit, url)
        assert len((tmp_path / "items.csv").read_text(encoding="utf-8").splitlines()) > 4 * 15
        shell(tmp_path, use, url)
        answers = (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(answers) == len(rows)
        again, fit = [block for block in blocks("gpu-server.md", "sh") if "estimate" in block or "/fit" in block]
        assert again == estimate
        assert json.loads(shell(tmp_path, fit, url))["measured_bytes"]


@pytest.mark.parametrize("language", ["sh", "yaml"])
def test_the_bulgarian_tutorial_has_the_same_commands(language: str) -> None:
    def commands(page: str) -> list[str]:
        return [re.sub(r"\s*#.*", "", block) for block in blocks(page, language)]

    assert commands("tutorial.md") == commands("bg/tutorial.md")
