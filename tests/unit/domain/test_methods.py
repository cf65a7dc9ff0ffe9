"""Methods: their settings, what they refuse and advise, adapter layers, and learning rates."""

from math import prod
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.domain.errors import FieldError
from app.domain.methods import (
    METHODS,
    SPECS,
    AdaLoraSpec,
    BitFitSpec,
    BottleneckAdapterSpec,
    FullSpec,
    HeadOnlySpec,
    Ia3Spec,
    LastLayersSpec,
    LeanFullSpec,
    LohaSpec,
    LokrSpec,
    LoraSpec,
    MethodSpec,
    OftSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
    VeraSpec,
)
from app.domain.methods.adapters import Place, place
from app.domain.methods.base import default_rate
from app.domain.methods.lowrank import factors
from app.domain.models.architecture import LinearFacts, ParameterFacts, TaskModel
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from tests.support.filled.filled import bert

BERT = bert(layers=2, width=64, inner=256, words=100, positions=64, heads=2).with_labels(3)
"""Two layers of width 64."""
ANY: TypeAdapter[MethodSpec] = TypeAdapter(MethodSpec)


def gpt2() -> TaskModel:
    """A decoder whose linear layers are stored the other way round, as a classifier."""
    shapes = {"attn.c_attn": (64, 192), "attn.c_proj": (64, 64), "mlp.c_fc": (64, 256), "mlp.c_proj": (256, 64)}
    linear = [
        LinearFacts(name=f"transformer.h.0.{name}", in_features=i, out_features=o, transposed=True)
        for name, (i, o) in shapes.items()
    ]
    return BERT.model_copy(
        update={
            "architecture": "GPT2ForSequenceClassification",
            "model_type": "gpt2",
            "head": ["score"],
            "linear": linear,
            "blocks": ["transformer.h.0"],
            "default_targets": {"lora": ["c_attn"], "loha": ["c_attn"], "lokr": ["c_attn"], "oft": ["c_attn"]},
        }
    )


def refused(fields: dict[str, Any]) -> tuple[str, str, str]:
    """Path, message and remedy of the only fault of a spec."""
    with pytest.raises(ValidationError) as failed:
        ANY.validate_python(fields)
    (error,) = failed.value.errors()
    found = error.get("ctx", {})
    return str(found.get("path") or error["loc"][-1]), error["msg"], str(found.get("remedy", ""))


@pytest.mark.parametrize("kind", SPECS)
def test_a_method_is_known_by_its_kind_and_travels_as_json(kind: str) -> None:
    spec = SPECS[kind]()
    assert isinstance(spec, BaseModel) and spec.kind == kind == spec.facts.kind == METHODS[kind].kind
    assert ANY.validate_json(spec.model_dump_json()) == spec
    assert spec.label
    assert type(spec).__doc__


@pytest.mark.parametrize("kind", SPECS)
def test_a_field_that_a_method_does_not_have_is_refused(kind: str) -> None:
    with pytest.raises(ValidationError, match="unheard_of"):
        ANY.validate_python({"kind": kind, "unheard_of": 1})


def test_fields_that_contradict_each_other_are_refused_with_a_remedy() -> None:
    assert refused({"kind": "adalora", "init_r": 4, "target_r": 4}) == (
        "target_r", "The target rank 4 is not below the initial rank 4", "Use less than init_r, which is 4"
    )  # fmt: skip
    assert refused({"kind": "adalora", "tinit": 0.6, "tfinal": 0.4})[0] == "tfinal"
    assert refused({"kind": "lora", "r": 3, "init_lora_weights": "orthogonal"})[2] == "Use an even r"
    assert refused({"kind": "lokr", "decompose_factor": 0})[1] == "0 divides no width"
    assert refused({"kind": "lora", "target_modules": []})[0] == "target_modules"


QUERY, KEY = (f"bert.encoder.layer.0.attention.self.{name}" for name in ("query", "key"))
CONV1D = "transformer.h.0.attn.c_attn is a Conv1D layer (weight [in, out]), which"
FAULTS: list[tuple[MethodSpec, TaskModel, tuple[str, str, str]]] = [
    (LoraSpec(r=65), BERT, ("r", f"{QUERY} is 64 × 64, so a rank of 65 adds nothing", "Use at most 64")),
    (
        AdaLoraSpec(init_r=100, target_modules=["key"]), BERT,
        ("init_r", f"{KEY} is 64 × 64, so a rank of 100 adds nothing", "Use at most 64"),
    ),
    (
        LoraSpec(layers_to_transform=[0, 5]), BERT,
        ("layers_to_transform", "BertForSequenceClassification has no block 5", "Choose from 0 to 1"),
    ),
    (
        LoraSpec(init_lora_weights="olora"), gpt2(),
        ("init_lora_weights", f"{CONV1D} OLoRA cannot decompose", 'Use "pissa"'),
    ),
    *[
        (spec, gpt2(), ("target_modules", f"{CONV1D} {spec.facts.name} cannot adapt", "Use LoRA or (IA)³"))
        for spec in (LohaSpec(), LokrSpec(), OftSpec())
    ],
    (
        OftSpec(oft_block_size=48, target_modules=["query"]), BERT,
        ("oft_block_size", f"{QUERY} has 64 inputs, which is not a multiple of 48", "Choose from: 2, 4, 8, 16, 32, 64"),
    ),
    (
        Ia3Spec(target_modules=["key"], feedforward_modules=["dense"]), BERT,
        (
            "feedforward_modules", "None of the target modules is in feedforward_modules ['dense']",
            "Choose from: key",
        ),
    ),
    (
        PrefixSpec(), BERT,
        (
            "kind", "The method prefix tuning does not support the task sequence-classification",
            "Use it for causal-lm, seq2seq-lm, preference",
        ),
    ),
    *[
        (
            spec, gpt2(),
            (
                "kind",
                "GPT2ForSequenceClassification finds the token that it classifies by its id, but virtual tokens have "
                "none",
                "Use LoRA or (IA)³",
            ),
        )
        for spec in (PromptSpec(), PTuningSpec())
    ],
    (
        PTuningSpec(), BERT.model_copy(update={"head": ["head", "classifier"]}),
        (
            "kind",
            "BertForSequenceClassification names a part of its head 'head', which PEFT takes for the network of "
            "p-tuning",
            "Use prompt tuning",
        ),
    ),
    (
        LastLayersSpec(layers=3), BERT,
        ("layers", "BertForSequenceClassification has 2 blocks, fewer than 3", "Use at most 2"),
    ),
    (
        BitFitSpec(),
        BERT.model_copy(update={"parameters": [p for p in BERT.parameters if not p.name.endswith(".bias")]}),
        ("kind", "BertForSequenceClassification has no bias vectors, which BitFit trains", "Use LoRA"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "model", "fault"), FAULTS, ids=lambda value: getattr(value, "kind", ""))
def test_what_does_not_fit_has_numbers_and_remedy(
    spec: MethodSpec, model: TaskModel, fault: tuple[str, str, str]
) -> None:
    assert spec.incompatibility(model) == FieldError(*fault)


def test_prompts_fit_language_models_of_every_kind() -> None:
    for spec in (PromptSpec(), PTuningSpec(), PrefixSpec()):
        assert spec.incompatibility(gpt2().model_copy(update={"task": "causal-lm", "head": []})) is None
        assert (
            spec.incompatibility(BERT.model_copy(update={"task": "seq2seq-lm", "head": [], "encoder_decoder": True}))
            is None
        )


ADVICE: list[tuple[MethodSpec, str, str]] = [
    (LoraSpec(r=32), "r", "try 8, or at most 16"),
    (AdaLoraSpec(init_r=32, target_r=2, target_modules=["dense"]), "init_r", "try 8, or at most 16"),
    (LohaSpec(r=9, target_modules=["key"]), "r", "Use 8, which already reaches full rank"),
    (LokrSpec(r=4, target_modules=["key"]), "r", "at most 3"),
]


@pytest.mark.parametrize(("spec", "path", "remedy"), ADVICE, ids=lambda value: getattr(value, "kind", ""))
def test_a_rank_that_gains_nothing_is_warned_about(spec: MethodSpec, path: str, remedy: str) -> None:
    assert spec.incompatibility(BERT) is None
    (advice,) = spec.advice(BERT)
    assert advice.path == path and remedy in advice.remedy
    lower = spec.model_copy(update={path: 3})
    assert lower.advice(BERT) == []


@pytest.mark.parametrize("targets", ["peft-default", ["query"], r".*attention.*"])
def test_a_low_rank_update_of_the_attention_alone_is_advised_against(targets: str | list[str]) -> None:
    (advice,) = LoraSpec(r=8, target_modules=targets).advice(BERT)
    assert (advice.path, advice.remedy) == ("target_modules", 'Use "all-linear"')
    assert "reports this of attention-only LoRA" in advice.message and "did not reproduce" in advice.message
    assert LoraSpec(r=8, target_modules=["query", "output.dense"]).advice(BERT) == []
    assert LoraSpec(r=8).advice(BERT) == []


def test_a_high_rank_is_told_what_it_costs() -> None:
    _attention, advice = LoraSpec(r=32, target_modules=["query"]).advice(BERT)
    assert advice.message == (
        "A rank of 32 is high for bert.encoder.layer.0.attention.self.query (64 × 64): A and B have 4,096 parameters, "
        "100% of the matrix itself"
    )
    assert VeraSpec(r=512, target_modules=["query"]).advice(BERT) == [], (
        "a row of the shared matrices costs a layer one number"
    )


@pytest.mark.parametrize("n", [1, 7, 64, 127, 384, 768, 1000])
@pytest.mark.parametrize("factor", [-1, 1, 4, 6, 100])
def test_a_width_is_a_product_of_two_factors(n: int, factor: int) -> None:
    small, large = factors(n, factor)
    assert small * large == n
    if factor > 0 and n % factor == 0:
        assert small == factor
    else:
        assert small <= large and (factor == -1 or small <= factor)


def test_adaloras_schedule_leaves_steps_to_judge_and_to_drop_in() -> None:
    assert AdaLoraSpec(tinit=0.1, tfinal=0.3).schedule(1000) == (100, 300)
    for total in range(2, 60):
        for tinit, tfinal in ((0, 0), (0.9, 0), (0, 0.9), (0.5, 0.49)):
            first, last = AdaLoraSpec(tinit=tinit, tfinal=tfinal).schedule(total)
            assert 0 <= first < total - last and total - last >= 2


def test_labels_name_the_variant() -> None:
    variants = {
        "full": FullSpec(),
        "head only": HeadOnlySpec(),
        "LoRA r=8": LoraSpec(),
        "DoRA r=4": LoraSpec(r=4, use_dora=True),
        "rsLoRA r=64": LoraSpec(r=64, use_rslora=True),
        "PiSSA r=8": LoraSpec(init_lora_weights="pissa_niter_16"),
        "OLoRA r=8": LoraSpec(init_lora_weights="olora"),
        "LoRA+ r=8": LoraSpec(loraplus_lr_ratio=16),
        "AdaLoRA r=12→8": AdaLoraSpec(),
        "OFT b=32": OftSpec(),
        "prompt tuning n=20": PromptSpec(),
    }
    assert {label: spec.label for label, spec in variants.items()} == {label: label for label in variants}


def test_virtual_tokens_take_positions_and_refuse_what_they_cannot_go_with() -> None:
    assert [s.virtual_tokens for s in (PromptSpec(num_virtual_tokens=7), PrefixSpec(), LoraSpec())] == [7, 20, 0]
    packed, again = TrainingArguments(packing=True), TrainingArguments(gradient_checkpointing=True)
    for spec in (PromptSpec(), PTuningSpec(), PrefixSpec()):
        clash = spec.clash(packed)
        assert clash is not None and clash.path == "training.packing"
        assert f"{spec.facts.name} does not work with packing: " in clash.message
        assert spec.clash(TrainingArguments()) is None
    assert [spec.clash(again) is None for spec in (PromptSpec(), PTuningSpec(), PrefixSpec())] == [True, True, False]
    assert LoraSpec().clash(packed) is LoraSpec().clash(again) is None


def test_p_tuning_counts_an_lstm_as_torch_does() -> None:
    spec = PTuningSpec(encoder_reparameterization_type="LSTM", encoder_hidden_size=16, encoder_num_layers=2)
    sizes = {t.name: t.shape for t in spec.trains(BERT) if ".lstm_head." in t.name}
    h, d = 16, 64
    first, second = 2 * 4 * h * (d + h + 2), 2 * 4 * h * (2 * h + h + 2)
    assert sum(prod(shape) for shape in sizes.values()) == first + second


@pytest.mark.parametrize(
    ("fields", "training", "path"),
    [
        ({}, {"bf16": False}, "training.bf16"),
        ({"step_in_backward": True}, {}, "training.max_grad_norm"),
        (
            {"step_in_backward": True},
            {"max_grad_norm": 0, "gradient_accumulation_steps": 2},
            "training.gradient_accumulation_steps",
        ),
        ({"weight_storage": "float32"}, {"bf16": False}, None),
        ({"step_in_backward": True}, {"max_grad_norm": 0}, None),
        ({}, {}, None),
    ],
)
def test_lean_names_what_it_excludes(fields: dict[str, Any], training: dict[str, Any], path: str | None) -> None:
    clash = LeanFullSpec.model_validate(fields).clash(TrainingArguments.model_validate(training))
    assert (clash.path if clash else None) == path


def test_lean_full_fine_tuning_is_named_by_what_it_saves() -> None:
    assert LeanFullSpec().label == "full, 8-bit AdamW, bf16 stochastic"
    plain = LeanFullSpec(optim="adafactor", weight_storage="float32", step_in_backward=True)
    assert plain.label == "full, Adafactor, step in backward"
    assert LeanFullSpec().needed == LeanFullSpec.needs and not plain.needed


WIDTH, BLOCKS = 12, 3
BERT_TINY = [
    ("attention.self.query", WIDTH),
    ("attention.output.dense", WIDTH),
    ("intermediate.dense", 48),
    ("output.dense", WIDTH),
]


def _model(inside: list[tuple[str, int]] = BERT_TINY) -> TaskModel:
    blocks = [f"bert.encoder.layer.{i}" for i in range(BLOCKS)]
    linear = [
        LinearFacts(name=f"{block}.{name}", in_features=WIDTH, out_features=outputs)
        for block in blocks
        for name, outputs in inside
    ]
    return TaskModel(
        task="sequence-classification",
        architecture="BertForSequenceClassification",
        model_type="bert",
        parameters=[
            ParameterFacts(name="classifier.weight", shape=(3, WIDTH)),
            ParameterFacts(name="classifier.bias", shape=(3,)),
        ],
        head=["classifier"],
        linear=[*linear, LinearFacts(name="bert.pooler.dense", in_features=WIDTH, out_features=WIDTH)],
        blocks=blocks,
        hidden_size=WIDTH,
        layers=BLOCKS,
        attention_heads=2,
        key_value_heads=2,
        key_value_width=WIDTH,
        default_targets={},
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("attention.output.dense", "attention"),
        ("output.dense", "feed-forward"),
        ("intermediate.dense", None),
        ("attention.self.query", None),
        ("attention.out_lin", "attention"),
        ("ffn.lin2", "feed-forward"),
        ("ffn.lin1", None),
        ("attn.c_proj", "attention"),
        ("mlp.c_proj", "feed-forward"),
        ("mlp.c_fc", None),
        ("self_attn.o_proj", "attention"),
        ("mlp.down_proj", "feed-forward"),
        ("mlp.up_proj", None),
        ("mlp.experts.3.down_proj", None),
        ("mlp.shared_expert.down_proj", None),
        ("layer.0.SelfAttention.o", "attention"),
        ("layer.1.EncDecAttention.o", "attention"),
        ("layer.2.DenseReluDense.wo", "feed-forward"),
        ("layer.2.DenseReluDense.wi_0", None),
        ("self_attn.out_proj", "attention"),
        ("encoder_attn.out_proj", "attention"),
        ("fc2", "feed-forward"),
        ("self_attention.dense", "attention"),
        ("mlp.dense_4h_to_h", "feed-forward"),
    ],
)
def test_a_projection_is_known_by_its_name(name: str, expected: Place | None) -> None:
    assert place(name) == expected


def test_the_placement_says_where_adapters_go_and_the_pooler_gets_none() -> None:
    touched = BottleneckAdapterSpec(placement="pfeiffer").touches(_model())
    assert touched == [f"bert.encoder.layer.{i}.output.dense" for i in range(BLOCKS)] + ["classifier"]
    assert len(BottleneckAdapterSpec().touches(_model())) == 2 * BLOCKS + 1


def test_models_without_a_known_layer_are_refused_with_what_they_have() -> None:
    incompatibility = BottleneckAdapterSpec(placement="pfeiffer").incompatibility(
        _model([("attention.o", WIDTH), ("ff.layer_2", WIDTH)])
    )
    assert incompatibility is not None
    assert incompatibility.path == "kind"
    assert "bert.encoder.layer.0 of BertForSequenceClassification" in incompatibility.message
    assert "linear layers: o, layer_2" in incompatibility.message
    model = _model([("mixer.out", WIDTH), ("output.dense", WIDTH)])
    incompatibility = BottleneckAdapterSpec().incompatibility(model)
    assert incompatibility is not None
    assert incompatibility.path == "placement"
    assert "pfeiffer" in incompatibility.remedy
    assert BottleneckAdapterSpec(placement="pfeiffer").incompatibility(model) is None


def test_a_bottleneck_as_wide_as_the_model_is_advised_against() -> None:
    assert [a.path for a in BottleneckAdapterSpec(bottleneck_size=WIDTH).advice(_model())] == ["bottleneck_size"]
    assert BottleneckAdapterSpec(bottleneck_size=WIDTH - 1).advice(_model()) == []


@pytest.mark.parametrize(
    "wrong", [{"bottleneck_size": 0}, {"placement": "lhuc"}, {"non_linearity": "tanh"}, {"adapter_dropout": 1.0}]
)
def test_values_that_make_no_adapter_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BottleneckAdapterSpec.model_validate({"kind": "bottleneck-adapter", **wrong})


@pytest.mark.parametrize(
    ("width", "full", "lora"),
    [(4096, 2.9e-5, 2.9e-4), (2048, 4.9e-5, 4.9e-4), (768, 1.1e-4, 1.1e-3), (384, 1.8e-4, 1.8e-3)],
)
def test_rates_fall_with_width_and_loras_is_ten_times_that_of_full(width: int, full: float, lora: float) -> None:
    assert (FullSpec().learning_rate(width=width), LoraSpec().learning_rate(width=width)) == (full, lora)


def test_default_rates_hold_at_any_width_and_a_given_rate_stays() -> None:
    assert default_rate(10, 32) == default_rate(10, 384) == default_rate(10)
    for facts in METHODS.values():
        assert 1e-6 < default_rate(facts.rate_multiple, 16_384) < default_rate(facts.rate_multiple, 384) < 0.05
    spec = RunSpec(base_model="m", dataset="d", method=LoraSpec())
    assert spec.with_default_rate(4096).learning_rate == 2.9e-4
    assert spec.with_default_rate(4096).with_default_rate(384).learning_rate == 2.9e-4


def test_a_default_name_states_the_rate_for_the_width() -> None:
    arms = [ArmSpec(method=LoraSpec()), ArmSpec(method=LoraSpec(), learning_rate=1e-3), ArmSpec(method=FullSpec())]
    study = StudySpec(name="S", base_model="m", dataset="d", arms=arms, reference="LoRA r=8 lr=0.0018")
    filled = study.with_default_rates(4096)
    assert [arm.title for arm in filled.arms] == ["LoRA r=8 lr=0.00029", "LoRA r=8 lr=0.001", "full"]
    assert [arm.learning_rate for arm in filled.arms] == [2.9e-4, 1e-3, 2.9e-5]
    assert filled.reference == "LoRA r=8 lr=0.00029"
    assert filled.with_default_rates(384) == filled


def test_preference_tuning_has_a_twentieth_of_the_rates() -> None:
    """In a run and in a study, unless a rate is given."""
    method = {"kind": "lora"}
    run = RunSpec.model_validate({"base_model": "a", "dataset": "b", "task": "preference", "method": method})
    assert run.with_default_rate(4096).learning_rate == 1.4e-5
    arms = [{"method": {"kind": "full"}}, {"method": method, "learning_rate": 3e-4}]
    study = StudySpec.model_validate(
        {"name": "n", "base_model": "a", "dataset": "b", "task": "preference", "arms": arms}
    )
    assert [arm.learning_rate for arm in study.with_default_rates(4096).arms] == [1.4e-6, 3e-4]
