"""Adapter layers: where they go by name alone, and how many numbers they hold."""

import pytest
from pydantic import ValidationError

from app.domain.methods import BottleneckAdapterSpec
from app.domain.methods.adapters import Place, place
from app.domain.models.architecture import LinearFacts, ParameterFacts, TaskModel

WIDTH, BLOCKS = 12, 3
BERT = [
    ("attention.self.query", WIDTH),
    ("attention.output.dense", WIDTH),
    ("intermediate.dense", 48),
    ("output.dense", WIDTH),
]


def _model(inside: list[tuple[str, int]] = BERT) -> TaskModel:
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


@pytest.mark.parametrize("m", [1, 8, 64])
def test_an_adapter_holds_what_the_paper_says(m: int) -> None:
    """2·m·d + d + m (section 2.1)."""
    one, head = 2 * m * WIDTH + WIDTH + m, 3 * WIDTH + 3
    houlsby = BottleneckAdapterSpec(bottleneck_size=m)
    pfeiffer = BottleneckAdapterSpec(bottleneck_size=m, placement="pfeiffer")
    assert houlsby.trainable(_model()) == 2 * BLOCKS * one + head
    assert pfeiffer.trainable(_model()) == BLOCKS * one + head


def test_the_placement_says_where_adapters_go_and_the_pooler_gets_none() -> None:
    touched = BottleneckAdapterSpec(placement="pfeiffer").touches(_model())
    assert touched == [f"bert.encoder.layer.{i}.output.dense" for i in range(BLOCKS)] + ["classifier"]
    assert len(BottleneckAdapterSpec().touches(_model())) == 2 * BLOCKS + 1


def test_a_model_without_a_known_feed_forward_is_refused_with_what_it_has() -> None:
    incompatibility = BottleneckAdapterSpec(placement="pfeiffer").incompatibility(
        _model([("attention.o", WIDTH), ("ff.layer_2", WIDTH)])
    )
    assert incompatibility is not None
    assert incompatibility.path == "kind"
    assert "bert.encoder.layer.0 of BertForSequenceClassification" in incompatibility.message
    assert "linear layers: o, layer_2" in incompatibility.message


def test_houlsby_without_a_known_attention_is_refused_and_pfeiffer_is_offered() -> None:
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
    "wrong",
    [{"bottleneck_size": 0}, {"placement": "lhuc"}, {"non_linearity": "tanh"}, {"adapter_dropout": 1.0}],
)
def test_values_that_make_no_adapter_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BottleneckAdapterSpec.model_validate({"kind": "bottleneck-adapter", **wrong})
