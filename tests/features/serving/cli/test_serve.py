"""`vezna serve`: what it says before it serves."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.domain.methods import BottleneckAdapterSpec, FullSpec, LoraSpec, MethodSpec, PromptSpec
from app.features.serving.cli.serve import larger
from app.features.serving.services.inference import Answerer


def answerer(run_id: int, method: MethodSpec, task: str = "causal-lm") -> Answerer:
    """A run with a method."""
    run: Any = SimpleNamespace(id=run_id, spec=SimpleNamespace(method=method))
    return Answerer(run, cast(Any, task), "prompt-completion", [])


def test_several_loras_are_one_command_of_vllm_with_a_rank_that_it_accepts() -> None:
    lines = larger([answerer(3, LoraSpec(r=4)), answerer(4, LoraSpec(r=24))], "org/base", "")
    [vllm] = [line for line in lines if line.startswith("vllm")]
    assert vllm == ("vllm serve org/base --enable-lora --max-lora-rank 32 --lora-modules run-3=./run-3 run-4=./run-4")
    assert "vezna export-model 3 --format adapter" in lines[0] and any(line.startswith("lorax") for line in lines)


def test_the_revision_and_the_rank_that_pissa_saves_are_named() -> None:
    pissa = LoraSpec(r=16, init_lora_weights="pissa")
    [vllm] = [line for line in larger([answerer(3, pissa)], "org/base", "abc") if line.startswith("vllm")]
    assert vllm.startswith("vllm serve org/base --revision abc --enable-lora --max-lora-rank 32 ")


@pytest.mark.parametrize("method", [LoraSpec(use_dora=True), LoraSpec(bias="all")], ids=["dora", "bias"])
def test_an_adapter_that_vllm_does_not_load_is_served_merged(method: MethodSpec) -> None:
    export, vllm = larger([answerer(5, method)], "org/base", "")
    assert "--format merged-bfloat16" in export and vllm == "vllm serve ./run-5"


def test_a_full_run_is_served_merged() -> None:
    export, vllm = larger([answerer(5, FullSpec())], "org/base", "")
    assert "--format merged-bfloat16" in export and vllm == "vllm serve ./run-5"


def test_an_adapter_of_a_packaged_model_is_served_merged() -> None:
    export, vllm = larger([answerer(5, LoraSpec(r=4))], "", "")
    assert "--format merged-bfloat16" in export and vllm == "vllm serve ./run-5"


@pytest.mark.parametrize("method", [PromptSpec(num_virtual_tokens=4), BottleneckAdapterSpec()])
def test_what_no_server_loads_is_said(method: MethodSpec) -> None:
    [line] = larger([answerer(6, method)], "org/base", "")
    assert "vLLM and LoRAX cannot load" in line and "vllm serve" not in line


def test_an_encoder_decoder_is_said() -> None:
    [line] = larger([answerer(7, LoraSpec(), "seq2seq-lm")], "org/base", "")
    assert "seq2seq-lm" in line
