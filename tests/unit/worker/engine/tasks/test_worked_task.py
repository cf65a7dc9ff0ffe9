"""The task that docs/tasks.md adds is the very code that it shows, and works: tagging, by a tiny BERT.

`Task` and `Format` are closed lists of names, so in these tests it stands in the place of sequence classification.
"""

import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.data import dataset
from app.domain.data.dataset import Split
from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, LoraSpec, MethodSpec
from app.domain.runs.job import TrainJob
from app.domain.runs.spec import RunSpec
from app.domain.tasks import TASKS
from app.settings import ROOT
from tests import tiny
from worker.engine import tasks as engine
from worker.engine.attempt import Attempt

PLACE = "sequence-classification"
FILE = "worker.engine.tasks.token_classification"
TAG = {word: tag for tag, group in enumerate(tiny.WORDS.values()) for word in group}
OTHER = len(tiny.WORDS)
LABELS = [*tiny.WORDS, "other"]
LONGER = tiny.FAST.model_copy(update={"num_train_epochs": 8, "learning_rate": 1e-2})


@pytest.fixture
def row_type(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's row type, when its two blocks have been put where they belong."""
    page = (ROOT / "docs" / "tasks.md").read_text().partition("### Token classification")[2]
    domain, file = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    shown: dict[str, Any] = {"NamedTuple": NamedTuple, "Split": Split, "TaskFacts": lambda **facts: facts}
    exec(domain, shown)
    facts = TASKS[PLACE].model_copy(update=shown["TOKEN_CLASSIFICATION"] | {"name": PLACE, "formats": ("labelled",)})
    monkeypatch.setattr(dataset, "TaggedRow", shown["TaggedRow"], raising=False)
    monkeypatch.setitem(dataset.ROWS, "labelled", shown["TaggedRow"])
    monkeypatch.setitem(TASKS, PLACE, facts)
    module = ModuleType(FILE)
    monkeypatch.setitem(sys.modules, FILE, module)
    exec(compile(file, "docs/tasks.md", "exec"), module.__dict__)
    monkeypatch.setitem(engine.TASKS, PLACE, module)  # type: ignore[arg-type]
    return shown["TaggedRow"]


def sentences(row_type: Any) -> list[Any]:
    """Texts of the tiny dataset by words; those that tell a label have its tag."""
    found = []
    for row in tiny.rows(train=120):
        words = row.text.split()
        found.append(row_type(row.item, row.split, words, [TAG.get(word, OTHER) for word in words]))
    return found


def job(folder: Path, base: Path, rows: list[Any], method: MethodSpec) -> TrainJob:
    (folder / "output").mkdir()
    pq.write_table(
        pa.table({name: [getattr(r, name) for r in rows] for name in rows[0]._fields}), folder / "rows.parquet"
    )
    return TrainJob(
        run_id=1,
        epoch=1,
        spec=RunSpec(base_model="tiny", dataset="tags", task=PLACE, method=method, training=LONGER),
        model_location=str(base),
        dataset_file=str(folder / "rows.parquet"),
        labels=LABELS,
        output=str(folder / "output"),
        device="cpu",
        threads=1,
        claimed_at=time.time(),
    )


def test_it_has_all_that_a_task_has(row_type: Any) -> None:
    asked = {name for name in (*vars(engine.TaskFile), *engine.TaskFile.__annotations__) if not name.startswith("_")}
    assert [name for name in asked if not hasattr(engine.TASKS[PLACE], name)] == []
    assert TASKS[PLACE].unit == "word"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("method", [FullSpec(), LoraSpec(r=4, target_modules="all-linear")], ids=lambda m: m.kind)
def test_it_learns_passes_the_audit_and_leaves_its_predictions(
    row_type: Any, base: Path, tmp_path: Path, method: MethodSpec
) -> None:
    rows = sentences(row_type)
    result = Attempt(job(tmp_path, base, rows, method), tiny.Recorder()).run()
    before, after = result.evaluation("base", "test"), result.evaluation("adapted", "test")
    assert before is not None and after is not None
    assert (after.score or 0) > 0.95 > (before.score or 0)  # "other" everywhere would be 0.83
    assert after.loss < before.loss
    assert result.audit.passed and result.audit.problems == []
    table = pq.read_table(tmp_path / "output" / "predictions.parquet").to_pydict()
    assert table["words"] == [r.words for r in rows if r.split == "test"]
    assert [len(tags) for tags in table["prediction"]] == [len(words) for words in table["words"]]
    right = [
        sum(a == b for a, b in zip(told, true, strict=True)) / len(true)
        for told, true in zip(table["prediction"], table["tags"], strict=True)
    ]
    assert right == pytest.approx(table["token_accuracy"], abs=1e-6)


@pytest.mark.parametrize(
    ("words", "tags", "says"),
    [
        (["cat"], [0, 1], "not have one tag per word"),
        ([], [], "not have one tag per word"),
        (["cat"], [9], "outside 0 to 3"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(
    row_type: Any, base: Path, tmp_path: Path, words: list[str], tags: list[int], says: str
) -> None:
    rows = [*sentences(row_type), row_type("odd", "test", words, tags)]
    with pytest.raises(RunFailed, match=f"Row odd of the test split .*{says}"):
        Attempt(job(tmp_path, base, rows, FullSpec()), tiny.Recorder()).run()
