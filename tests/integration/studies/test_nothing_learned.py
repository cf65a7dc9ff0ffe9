"""A study with the shape of the drug reviews (few rows, short training, 65 % of the items with one label), trained for
real on a tiny model: it ends in "nothing was learned", with causes. The same with enough training does not."""

import random
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.domain.comparison.learning.causes import CauseKind
from app.domain.comparison.learning.learning import Criterion, Helps
from app.domain.comparison.statistics.verdict import Reason
from app.domain.comparison.study import StudyComparison
from app.domain.data.baselines import BaselineRequest
from app.domain.data.dataset import LabelledRow, item_name, split_at
from app.domain.methods import FullSpec, LoraSpec
from app.domain.runs.job import TrainJob
from app.domain.runs.result import to_array
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.services.data import datasets
from app.services.studies import learning, studies
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import evaluations, steps
from app.store.runs import queries as runs
from app.store.tables import DatasetRow, EstimateRow, RunRow
from tests.support.fakes.fakes import SilentBell
from tests.support.tiny import texts as tiny
from worker.engine.baselines.texts import baseline
from worker.engine.loop.attempt import Attempt

TRAIN, VALIDATION, TEST = 240, 60, 200
SHARES = {"animal": 0.25, "colour": 0.65, "number": 0.10}


def reviews() -> list[LabelledRow]:
    """Texts of fillers with one word that tells the label; 65 % are of colours, as for drugs most reviews are
    positive. A few are longer than `max_length`."""
    chance = random.Random(3)
    rows: list[LabelledRow] = []
    for place in range(TRAIN + VALIDATION + TEST):
        [label] = chance.choices(list(SHARES), list(SHARES.values()))
        words = chance.choices(tiny.FILLERS, k=chance.randint(5, 18))
        words.insert(chance.randrange(len(words)), chance.choice(tiny.WORDS[label]))
        text = " ".join(words)
        rows.append(
            LabelledRow(
                item_name(f"{place} {text}"), split_at(place, TRAIN, VALIDATION), text, tiny.LABELS.index(label)
            )
        )
    return rows


def trained(session: Session, run: RunRow, dataset: Path, model: Path, output: Path) -> None:
    """Train a run in this process, and store what it reports."""
    data = session.get_one(DatasetRow, run.dataset_id)
    recorder = tiny.Recorder()
    job = TrainJob(
        run_id=run.id,
        epoch=1,
        spec=run.spec,
        model_location=str(model),
        dataset_file=str(dataset),
        labels=data.facts.labels,
        output=str(output),
        device="cpu",
        threads=1,
        claimed_at=run.queued_at.timestamp(),
    )
    output.mkdir(parents=True)
    result = Attempt(job, recorder).run()
    for evaluation, items, scores in recorder.evaluations:
        evaluations.add(session, run.id, evaluation, items, scores)
    steps.append(session, run.id, to_array(recorder.seen))
    run.status, run.result_json = "succeeded", result.model_dump(mode="json")


def finished(database: Database, files: Files, folder: Path, training: TrainingBudget, rate: float) -> StudyComparison:
    """A study of two arms and two seeds on the reviews, with its baselines; the whole of it trained for real."""
    model, bell = tiny.save_model(folder / "model"), SilentBell()
    arms = [
        ArmSpec(method=FullSpec(), learning_rate=rate),
        ArmSpec(method=LoraSpec(target_modules=["query", "value"]), learning_rate=rate),
    ]
    with database.transaction() as session:
        row = datasets.register(
            session, files, name="reviews", title="Reviews", form="labelled", labels=tiny.LABELS, rows=reviews()
        )
        spec = StudySpec(
            name="Reviews", base_model="tiny", dataset="reviews", arms=arms, seeds=[0, 1], training=training
        )
        study = studies.submit(session, bell, spec).id
        dataset = tiny.save_rows(folder / "reviews.parquet", reviews())
        for run in runs.of_study(session, study):
            trained(session, run, dataset, model, folder / f"run-{run.id}")
        for estimate in session.query(EstimateRow).where(EstimateRow.kind == "baseline"):
            request = estimate.request
            assert isinstance(request, BaselineRequest) and row
            local = request.model_copy(update={"location": str(model)} if request.location else {})
            estimate.status = "ready"
            estimate.result_json = baseline(local, dataset).model_dump(mode="json")
    with database.reading() as session:
        return studies.comparison(session, study)


@pytest.mark.nightly
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_short_training_on_reviews_ends_in_nothing_was_learned_with_causes(
    registered: Database, files: Files, tmp_path: Path
) -> None:
    budget = TrainingBudget(
        num_train_epochs=2, per_device_train_batch_size=8, max_length=16, warmup_steps=0, bf16=False
    )
    study = finished(registered, files, tmp_path, budget, 5e-5)
    assert study.learning.nothing and study.learning.helps is Helps.NO
    assert Criterion.TRIVIAL in study.learning.criteria
    trivial, tfidf, _embeddings = study.baselines
    assert trivial.score and tfidf.score and trivial.score.mean == pytest.approx(0.65, abs=0.06)
    assert tfidf.score.mean > 0.9
    assert all(arm.verdict and arm.verdict.reason is Reason.NOT_TESTED for arm in study.others)
    with registered.reading() as session:
        causes = learning.causes_of(session, 1, study)
    assert CauseKind.STEPS in {cause.kind for cause in causes.found}
    assert causes.found[0].likely
    lengths = next(c for c in (*causes.found, *causes.ruled_out) if c.kind is CauseKind.MAX_LENGTH)
    assert 0 < lengths.rows < TRAIN and lengths.of_rows == TRAIN


@pytest.mark.nightly
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_enough_training_on_the_same_rows_learns(registered: Database, files: Files, tmp_path: Path) -> None:
    budget = TrainingBudget(
        num_train_epochs=8, per_device_train_batch_size=8, max_length=32, warmup_steps=0, bf16=False
    )
    study = finished(registered, files, tmp_path, budget, 3e-3)
    assert not study.learning.nothing
    assert study.reference.score and study.reference.score.mean > 0.9
