"""GGUF exports by llama.cpp itself: its tokens, its probabilities and its chat template are those of the trained model.
transformers reads the same files in `test_gguf.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
import xllamacpp
from transformers import AutoTokenizer

from app.domain.models.exports import ExportFormat
from tests.features.shipping.exporting.test_gguf import FAMILIES, TEXTS, run
from tests.support.servers.running_stack import free_port
from worker.features.shipping.exporting import merge

pytestmark = pytest.mark.slow

CANDIDATES = 8
"""Most probable next tokens that are compared."""


@contextmanager
def llama_server(file: Path) -> Iterator[httpx2.Client]:
    """llama.cpp's server on a GGUF file, as `llama-server --model FILE` starts it."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.port, parameters.n_ctx, parameters.n_parallel, parameters.n_predict = free_port(), 64, 1, 1
    parameters.warmup = False
    server = xllamacpp.Server(parameters)
    with httpx2.Client(base_url=server.listening_address, timeout=60) as client:
        yield client


@pytest.mark.parametrize("name", FAMILIES)
def test_llama_cpp_computes_what_the_trained_model_does(name: str, tmp_path: Path) -> None:
    job, model = run(tmp_path, name, ExportFormat.GGUF_F16)
    merge.write(job)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")

    def answer(path: str, **body: Any) -> Any:
        response = client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    with llama_server(Path(job.job.output) / "model-F16.gguf") as client:
        for text in TEXTS:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert answer("/tokenize", content=text, add_special=False)["tokens"] == ids
            with torch.inference_mode():
                expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            # The server tells probabilities with a token that is text: not with one that ends it, or half a character.
            written = answer("/completion", prompt=ids, n_predict=1, logit_bias=[[ids[0], 1000]], n_probs=CANDIDATES)
            [first] = written["completion_probabilities"]
            found = {candidate["id"]: candidate["logprob"] for candidate in first["top_logprobs"]}
            assert found == pytest.approx({id_: expected[id_].item() for id_ in found}, abs=0.02)
            assert [*found.values()] == pytest.approx(expected.topk(CANDIDATES).values.tolist(), abs=0.02)
        chat = [{"role": "user", "content": "count"}]
        prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert answer("/apply-template", messages=chat)["prompt"] == prompt
