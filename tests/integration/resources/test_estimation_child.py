"""The process that predicts, with the real engine: a configuration and a tokenizer do, and a mistake is a sentence."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.domain.data.previews import Preview
from app.domain.errors import Invalid
from app.domain.methods import LoraSpec
from app.domain.resources.estimate import ResourceEstimate
from app.domain.runs.training import TrainingArguments
from app.services.data import datasets, previews
from app.services.resources import estimates
from app.settings import ROOT
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.resources import estimates as estimate_rows
from app.store.tables import BaseModelRow
from tests.conftest import small_dataset
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.estimates import request
from tests.support.tiny import texts as tiny
from worker.estimation import child
from worker.estimation.host import Estimator, NoAnswer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("database", ["sqlite"], indirect=True),
    pytest.mark.usefixtures("database"),
]
PATIENCE = 400.0
"""Seconds. The process yields to every other one, so on a busy machine it takes minutes to import the libraries."""
SHORT = TrainingArguments(max_length=32, per_device_train_batch_size=4)


@pytest.fixture(scope="module")
def estimator() -> Iterator[Estimator]:
    """One for all, as in a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        found = Estimator(estimate_seconds=PATIENCE, long_seconds=PATIENCE, start_seconds=PATIENCE)
        yield found
        found.end()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's directory without its weights."""
    found = tiny.save_model(tmp_path_factory.mktemp("model"))
    for weights in found.glob("*.safetensors"):
        weights.unlink()
    return found


def test_configuration_tokenizer_and_rows_are_enough(
    estimator: Estimator, model: Path, database: Database, files: Files
) -> None:
    labels, rows = small_dataset()
    with database.transaction() as session:
        row = datasets.register(session, files, name="small", title="", form="labelled", labels=labels, rows=rows)
    known = {"dataset_file": row.file, "dataset_hash": row.content_hash}
    found = estimator.estimate(request(location=str(model), training=SHORT, **known), files)
    assert isinstance(found, ResourceEstimate)
    assert (found.lengths.source, found.lengths.rows, found.steps) == ("dataset", 24, 18)
    assert found.trainable == found.total > 0 and found.train_flops > found.step_flops > 0
    assert found.ledger.total == found.phases["train"]
    lora = estimator.estimate(request(location=str(model), training=SHORT, method=LoraSpec(r=2), **known), files)
    assert isinstance(lora, ResourceEstimate) and lora.ledger.total < found.ledger.total


def test_rows_are_shown_as_the_model_sees_them(
    estimator: Estimator, model: Path, database: Database, files: Files, bell: SilentBell
) -> None:
    labels, rows = small_dataset()
    with database.transaction() as session:
        row = datasets.register(session, files, name="small", title="", form="labelled", labels=labels, rows=rows)
        base = BaseModelRow(name="tiny", source="directory", location=str(model), status="ready")
        session.add(base)
        session.flush()
        asked = previews.wanted(session, bell, row, base, "sequence-classification", 8)
        again = previews.wanted(session, bell, row, base, "sequence-classification", 8)
        assert asked.id == again.id
        with pytest.raises(Invalid, match="causal-lm does not train on rows of labelled"):
            previews.wanted(session, bell, row, base, "causal-lm", 8)
    with database.transaction() as session:
        claimed = estimates.begin(session, asked.id)
    assert claimed is not None
    found = estimator.estimate(claimed.request, files)
    assert isinstance(found, Preview)
    assert [lengths.rows for lengths in found.lengths] == [24, 8, 8]
    assert len(found.rows) == 5
    with database.transaction() as session:
        assert estimates.ready(session, bell, claimed, found)
    with database.reading() as session:
        assert estimate_rows.get(session, asked.id).preview == found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"config": {"model_type": "lorra"}}, "lorra"),
        ({"config": {"model_type": "bert", "num_hidden_layers": 10**9}}, "num_hidden_layers"),
        ({"config": {"model_type": "bert", "vocab_size": "many"}}, "vocab_size"),
        ({"config": {"model_type": "own", "auto_map": {"AutoModel": "own.Model"}}}, "own"),
        ({"location": "/nowhere/at/all"}, "does not exist on this worker"),
        ({"location": "nobody/knows-this"}, "This worker is offline"),
    ],
)
def test_what_cannot_be_predicted_is_a_sentence_and_the_process_stays(
    estimator: Estimator, files: Files, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(NoAnswer) as no:
        estimator.estimate(request(**{"location": ""} | change), files)
    assert says in no.value.message
    assert re.search(r"Traceback|Error\b.*Error\b", no.value.message) is None
    assert estimator.pid is not None


def test_an_exception_is_an_internal_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert child.answer(b"no JSON")["internal"]
    assert "JSONDecodeError" in capsys.readouterr().err


def test_a_length_above_the_models_positions_is_a_sentence(estimator: Estimator, model: Path, files: Files) -> None:
    long = TrainingArguments(max_length=4096)
    with pytest.raises(NoAnswer, match=r"reads at most 32 tokens\. Lower it to 32"):
        estimator.estimate(request(location=str(model), training=long), files)
