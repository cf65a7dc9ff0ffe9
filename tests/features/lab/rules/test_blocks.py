"""The parts of a transformer: together they are the model."""

import pytest

from app.features.lab.rules.blocks import BLOCK_PARTS, block_parts
from app.features.lab.services import lessons


@pytest.mark.parametrize("name", list(lessons.architectures()))
def test_the_parts_have_every_parameter(name: str) -> None:
    model = lessons.architectures()[name].model
    parts = {part.name: part for part in block_parts(model)}
    assert tuple(parts) == BLOCK_PARTS
    assert sum(part.parameters for part in parts.values()) == model.total
    for part in ("attention", "feed-forward"):
        assert all(
            matrix.count >= len(model.blocks) // 2 for matrix in parts[part].matrices if "bias" not in matrix.name
        )
    assert not parts["norms"].matrices and parts["norms"].parameters < model.total / 1000


def test_bert_is_split_as_its_paper_has_it() -> None:
    model = lessons.architectures()["BERT-base"].model
    parts = {part.name: part for part in block_parts(model)}
    attention = [(matrix.name, matrix.shape, matrix.count) for matrix in parts["attention"].matrices]
    assert attention == [
        *((f"attention.self.{name}", (768, 768), 12) for name in ("query", "key", "value")),
        ("attention.output.dense", (768, 768), 12),
    ]
    assert parts["attention"].parameters == 12 * 4 * (768 * 768 + 768)
    assert parts["feed-forward"].parameters == 12 * (2 * 768 * 3072 + 768 + 3072)
    assert parts["head"].parameters == 768 * 768 + 768 + 2 * 768 + 2
    assert [matrix.name for matrix in parts["head"].matrices] == ["bert.pooler.dense", "classifier"]


def test_a_head_that_shares_the_embeddings_has_no_parameters_of_its_own() -> None:
    heads = {
        name: next(part for part in block_parts(known.model) if part.name == "head").parameters
        for name, known in lessons.architectures().items()
    }
    assert heads["GPT-2"] == heads["T5-base"] == heads["Llama 3.2 1B"] == 0
    assert heads["Llama 3.1 8B"] == 128_256 * 4096


def test_a_conv1d_is_shown_as_any_linear_layer() -> None:
    parts = {part.name: part for part in block_parts(lessons.architectures()["GPT-2"].model)}
    assert parts["feed-forward"].matrices[0].shape == (3072, 768)  # out × in; the file has it the other way round
