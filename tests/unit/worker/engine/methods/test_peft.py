"""What PEFT carries out, in its details: starts and variants of LoRA, AdaLoRA's schedule, virtual tokens."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import (
    AdaLoraSpec,
    Ia3Spec,
    LohaSpec,
    LokrSpec,
    LoraSpec,
    MethodSpec,
    OftSpec,
    PeftMethod,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
    VeraSpec,
)
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine import adapted as tried
from tests.unit.worker.engine.methods.test_methods import put, save
from tests.unit.worker.engine.saving import test_resume
from worker.engine.evaluation import audit
from worker.engine.loop.attempt import Attempt
from worker.engine.methods import peft
from worker.engine.methods.peft import RankBudget

VARIANTS: list[PeftMethod] = [
    LoraSpec(r=2, target_modules="all-linear"),
    LoraSpec(r=4, target_modules=["dense"]),
    LoraSpec(r=4, target_modules=r".*layer\.1\..*(query|value)"),
    LoraSpec(r=4, use_dora=True),
    LoraSpec(r=4, target_modules=["query"], use_rslora=True, bias="lora_only"),
    LoraSpec(r=4, target_modules=["query"], bias="all"),
    LoraSpec(r=4, layers_to_transform=[1]),
    LoraSpec(r=4, init_lora_weights="gaussian"),
    LoraSpec(r=4, init_lora_weights="orthogonal"),
    LoraSpec(r=4, init_lora_weights=False),
    LoraSpec(r=4, init_lora_weights="pissa"),
    LoraSpec(r=4, init_lora_weights="pissa_niter_16", use_dora=True),
    LoraSpec(r=4, init_lora_weights="pissa", use_rslora=True, target_modules="all-linear"),
    LoraSpec(r=4, init_lora_weights="olora", bias="lora_only"),
    LohaSpec(r=3, target_modules="all-linear"),
    LokrSpec(r=1, decompose_both=True),
    LokrSpec(r=2, decompose_factor=4, target_modules="all-linear"),
    VeraSpec(r=8, save_projection=False, projection_prng_key=7),
    OftSpec(oft_block_size=8, block_share=True),
    OftSpec(oft_block_size=8, coft=True, eps=0.1, use_cayley_neumann=False),
    Ia3Spec(target_modules="all-linear", feedforward_modules=["output.dense"]),
    Ia3Spec(target_modules=["query"]),
    PromptSpec(num_virtual_tokens=3, prompt_tuning_init="RANDOM"),
    PTuningSpec(num_virtual_tokens=3, encoder_hidden_size=12),
    PTuningSpec(num_virtual_tokens=3, encoder_hidden_size=8, encoder_reparameterization_type="LSTM"),
]
TRIES = [(spec, "bert") for spec in VARIANTS] + [
    (LoraSpec(r=4, init_lora_weights="pissa"), "gpt2"),
    (LoraSpec(r=4, init_lora_weights="orthogonal", use_dora=True), "gpt2"),
    (LoraSpec(r=4, init_lora_weights="olora"), "t5"),
    (LoraSpec(r=4, bias="all", target_modules="all-linear"), "t5"),
    (PrefixSpec(num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=12), "llama"),
    (PrefixSpec(num_virtual_tokens=3, prefix_projection=True), "t5"),
    (PTuningSpec(num_virtual_tokens=3, encoder_reparameterization_type="LSTM", encoder_num_layers=1), "t5"),
]


def some_fields(spec: MethodSpec) -> str:
    """Those that are not the defaults."""
    default = type(spec)()
    return ",".join(f"{k}={v}" for k, v in spec if k != "r" and v != getattr(default, k)) or "r"


@pytest.mark.by_day
@pytest.mark.parametrize(
    ("spec", "name"), TRIES, ids=[f"{spec.kind}-{name}-{some_fields(spec)}" for spec, name in TRIES]
)
def test_a_variant_trains_what_it_says_learns_and_loads(spec: PeftMethod, name: str, tmp_path: Path) -> None:
    expected = spec.trains(tried.facts(name))
    adapted = put(spec, name)
    audit.check_trainable(adapted, expected)
    before = audit.hashes(adapted)
    losses = list(tried.steps(adapted, spec, name, 4))
    assert losses[-1] < losses[0]
    audit.compare(before, adapted, {t.name: t.group for t in expected}, ())
    loaded = PeftModel.from_pretrained(tried.model(name), save(adapted, spec, name, tmp_path)).eval()
    with torch.inference_mode():
        torch.testing.assert_close(tried.logits(loaded, name), tried.logits(adapted, name), rtol=0, atol=1e-5)


STILL = [
    *(spec for spec in VARIANTS if not (isinstance(spec, LoraSpec) and spec.init_lora_weights is False)),
    AdaLoraSpec(),
]
STILL = [spec for spec in STILL if not isinstance(spec, PromptSpec | PTuningSpec)]


@pytest.mark.by_day
@pytest.mark.parametrize("spec", STILL, ids=lambda spec: f"{spec.kind}-{some_fields(spec)}")
def test_before_the_first_step_it_answers_as_the_base_model(spec: PeftMethod) -> None:
    with torch.inference_mode():
        adapted, base = put(spec, "bert").eval(), tried.model("bert")
        torch.testing.assert_close(tried.logits(adapted, "bert"), tried.logits(base, "bert"), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "task"), [("bert", TaskType.SEQ_CLS), ("llama", TaskType.CAUSAL_LM)])
def test_all_linear_layers_are_those_that_peft_selects_without_the_head(name: str, task: TaskType) -> None:
    config = LoraConfig(task_type=task, r=4, target_modules="all-linear")
    by_hand: Any = get_peft_model(tried.model(name), config)
    adapted = {m.name for m in LoraSpec().targets(tried.facts(name))}
    assert adapted == {
        n.removesuffix(".lora_A").partition("base_model.model.")[2]
        for n, _m in by_hand.named_modules()
        if n.endswith(".lora_A")
    }


def test_pissa_starts_from_the_largest_singular_directions_and_is_kept_as_plain_lora(tmp_path: Path) -> None:
    spec = LoraSpec(r=4, init_lora_weights="pissa", use_rslora=True)
    adapted: Any = put(spec, "bert")
    layer = adapted.base_model.model.bert.encoder.layer[0].attention.self.query
    weight = tried.model("bert").bert.encoder.layer[0].attention.self.query.weight
    update = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    values, first = torch.linalg.svdvals(weight), torch.linalg.svdvals(update)
    torch.testing.assert_close(first[:4], values[:4])
    torch.testing.assert_close(layer.base_layer.weight + update, weight)
    folder = save(adapted, spec, "bert", tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"], config["use_rslora"]) == (8, True, True)
    assert config["lora_alpha"] / 8**0.5 == pytest.approx(16 / 4**0.5)
    assert any("classifier" in name for name in load_file(folder / "adapter_model.safetensors")), "the head is kept"
    assert adapted.peft_config["default"].r == 4, "the model that trained is as it was"


def test_lora_plus_gives_b_a_faster_rate() -> None:
    spec = LoraSpec(loraplus_lr_ratio=16)
    trained = spec.trains(tried.facts("bert"))
    factors = {t.name.split(".")[-3]: spec.rate_factor(t.name) for t in trained}
    assert (factors["lora_A"], factors["lora_B"], factors["modules_to_save"]) == (1, 16, 1)


def test_what_peft_refuses_is_said_in_its_words() -> None:
    class Odd(LoraSpec):
        def peft_options(self, model: Any) -> dict[str, Any]:
            return super().peft_options(model) | {"target_modules": ["nowhere"]}

    model = tried.model("bert")
    with pytest.raises(RunFailed, match=r"PEFT cannot apply LoRA r=8 to Bert.*No modules were targeted") as failed:
        peft.apply(model, Odd(), tried.facts("bert"))
    assert failed.value.code is FailureCode.BAD_CONFIGURATION


def ranks(adapted: Any) -> list[int]:
    """Directions with a value, by layer."""
    return [int((p != 0).sum()) for name, p in adapted.named_parameters() if ".lora_E." in name]


def test_adalora_drops_directions_until_the_target_is_left_on_average() -> None:
    spec = AdaLoraSpec(init_r=6, target_r=3, target_modules=["query", "value"], tinit=0.2, tfinal=0.3)
    adapted = put(spec, "bert")
    seen = []
    for _ in tried.steps(adapted, spec, "bert", 20):
        seen.append(ranks(adapted))
    totals = [sum(left) for left in seen]
    assert totals[3] == 24, "nothing is dropped in the first fifth"
    assert all(before >= after for before, after in pairwise(totals[3:]))
    assert totals[14] == totals[-1] == 3 * 4


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_adalora_works_in_runs_of_few_steps(steps: int) -> None:
    spec = AdaLoraSpec(init_r=6, target_r=3, target_modules=["query", "value"], tinit=0.45, tfinal=0.5)
    adapted = put(spec, "bert")
    list(tried.steps(adapted, spec, "bert", steps))
    assert sum(ranks(adapted)) == (24 if steps == 1 else 12)


def test_adalora_keeps_the_ranks_of_the_best_weights_not_of_the_last(tmp_path: Path) -> None:
    spec = AdaLoraSpec(init_r=6, target_r=1, target_modules=["query", "value"], tinit=0.3, tfinal=0.2)
    adapted = put(spec, "bert")
    best: dict[str, torch.Tensor] = {}
    for step, _ in enumerate(tried.steps(adapted, spec, "bert", 10), start=1):
        if step == 4:
            best = {name: p.detach().clone() for name, p in adapted.named_parameters()}
    assert sum(ranks(adapted)) == 4
    adapted.load_state_dict(best, strict=False)
    with torch.inference_mode():
        wanted = tried.logits(adapted, "bert")
        loaded = PeftModel.from_pretrained(tried.model("bert"), save(adapted, spec, "bert", tmp_path)).eval()
        torch.testing.assert_close(tried.logits(loaded, "bert"), wanted, rtol=0, atol=1e-5)


def test_adaloras_penalty_is_that_of_peft() -> None:
    spec = AdaLoraSpec(init_r=6, target_r=3, orth_reg_weight=0.25)
    adapted: Any = put(spec, "bert")
    arguments, targets = tried.inputs("bert")
    plain = torch.nn.functional.cross_entropy(adapted(**arguments).logits, targets)
    theirs = adapted(**arguments, labels=targets).loss - plain
    assert RankBudget(adapted, spec, 10).penalty().item() == pytest.approx(theirs.item(), rel=1e-4)


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize("at", [*(pytest.param(at, marks=pytest.mark.slow) for at in (3, 13)), 9])
@pytest.mark.parametrize(
    "spec",
    [AdaLoraSpec(init_r=6, target_r=5), LoraSpec(r=4, init_lora_weights="pissa_niter_16"), PromptSpec()],
    ids=["adalora", "pissa", "prompt"],
)
def test_a_stopped_run_goes_on_to_the_same_losses_and_adapter(spec: PeftMethod, at: int, tmp_path: Path) -> None:
    short = test_resume.TRAINING.model_copy(update={"max_length": 12})
    model = tiny.save_model(tmp_path / "model")
    expected = test_resume.whole(tmp_path / "whole", model, spec, short)
    kept = test_resume.stopped(tmp_path / "first", model, spec, at, short)
    job = tiny.job(tmp_path / "second", model, spec, short).model_copy(update={"resume": str(kept)})
    result = Attempt(job, tiny.Recorder()).run()
    assert test_resume.losses(tmp_path / "second") == test_resume.losses(tmp_path / "whole")
    adapters = [next(f.sha256 for f in r.artifacts if f.name.endswith(".safetensors")) for r in (expected, result)]
    assert adapters[0] == adapters[1]


VIRTUAL = [
    (spec, name)
    for name in ("gpt2", "llama", "t5")
    for spec in (PromptSpec(num_virtual_tokens=3), PTuningSpec(num_virtual_tokens=3), PrefixSpec(num_virtual_tokens=3))
]


@pytest.mark.parametrize(("spec", "name"), VIRTUAL, ids=[f"{spec.kind}-{name}" for spec, name in VIRTUAL])
def test_generation_writes_what_the_forward_pass_finds_most_probable(spec: PeftMethod, name: str) -> None:
    adapted: Any = put(spec, name)
    list(tried.steps(adapted, spec, name, 4))
    for p in adapted.prompt_encoder.parameters():
        p.data *= 3  # so that the virtual tokens decide
    texts, new = [[5, 6, 7, 8, 9, 10], [11, 12, 13]], 5
    pad = [0] * (len(texts[0]) - len(texts[1]))
    rows = torch.tensor([texts[0], texts[1] + pad if name == "t5" else pad + texts[1]])
    options = {"max_new_tokens": new, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.inference_mode():
        found = adapted.generate(input_ids=rows, attention_mask=(rows != 0).long(), **options)
        assert found.shape[1] == new + (1 if name == "t5" else rows.shape[1])
        for row, text in zip(found[:, -new:].tolist(), texts, strict=True):
            assert row == greedy(adapted, name, text, new)
        plain = tried.logits(tried.model(name), name)
        assert (tried.logits(adapted, name) - plain).abs().max() > 0.1, "the virtual tokens have a say"


def greedy(model: Any, name: str, text: list[int], new: int) -> list[int]:
    """Word by word, each by a forward pass over everything."""
    ids, written = torch.tensor([text]), torch.tensor([[0]])
    for _ in range(new):
        if name == "t5":
            found = model(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=written).logits
        else:
            found = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        best = found[:, -1:].argmax(-1)
        ids, written = (ids, torch.cat([written, best], 1)) if name == "t5" else (torch.cat([ids, best], 1), written)
    return (written if name == "t5" else ids)[0, -new:].tolist()


def test_padding_changes_no_answer_and_virtual_tokens_take_positions(base: Path, tmp_path: Path) -> None:
    adapted = put(PromptSpec(num_virtual_tokens=3), "bert").eval()
    ids = torch.tensor([[11, 12, 13, 0, 0, 0]])
    with torch.inference_mode():
        padded = adapted(input_ids=ids, attention_mask=(ids != 0).long()).logits
        plain = adapted(input_ids=ids[:, :3], attention_mask=torch.ones(1, 3, dtype=torch.long)).logits
    torch.testing.assert_close(padded, plain, rtol=0, atol=1e-6)
    spec = PromptSpec(num_virtual_tokens=20)
    training = tiny.FAST.model_copy(update={"max_length": 16})
    with pytest.raises(RunFailed, match="20") as failed:
        Attempt(tiny.job(tmp_path, base, spec, training), tiny.Recorder()).run()
    assert failed.value.code is FailureCode.BAD_CONFIGURATION
