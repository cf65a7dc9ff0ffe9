"""GGUF exports by llama.cpp, where `llama-cpp-python` is installed: its tokens, its scores and its chat template are
those of the trained model. transformers reads the same files in `test_gguf.py`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from app.domain.models.exports import ExportFormat
from tests.unit.worker.engine.exporting.test_gguf import TEXTS, run
from worker.engine.exporting import merge

pytestmark = pytest.mark.slow


@pytest.fixture
def llama_cpp() -> Any:
    """The package; without it the test is skipped."""
    return pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: it needs a C++ compiler")


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_llama_cpp_computes_what_the_trained_model_does(name: str, tmp_path: Path, llama_cpp: Any) -> None:
    job, model = run(tmp_path, name, ExportFormat.GGUF_F16)
    merge.write(job)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    file = Path(job.job.output) / "model-F16.gguf"
    served = llama_cpp.Llama(model_path=str(file), n_ctx=64, n_threads=2, logits_all=True, verbose=False)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert served.tokenize(text.encode(), add_bos=False, special=True) == ids
        with torch.inference_mode():
            expected = model(torch.tensor([ids])).logits[0].numpy()
        served.reset()
        served.eval(ids)
        np.testing.assert_allclose(np.asarray(served.scores[: len(ids)]), expected, rtol=5e-2, atol=5e-2)
    assert served.metadata["tokenizer.chat_template"] == tokenizer.chat_template
