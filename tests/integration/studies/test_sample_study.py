"""The sample study beside what users have registered under the sample's names. On SQLite and on PostgreSQL."""

import re

import pytest

from app.cli import serve
from app.domain.data.dataset import SAMPLE_DATASET, PreferenceRow, QueryRow, Tally
from app.domain.errors import Invalid
from app.domain.models.base_model import SAMPLE_LANGUAGE_MODEL, SAMPLE_MODEL
from app.domain.studies.power import detectable_difference
from app.samples import samples as sample
from app.services.data import datasets
from app.services.studies import studies as study_service
from app.settings import Settings
from app.store.data import queries as rows_of_data
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow, DatasetRow, StudyRow
from tests.conftest import TINY_FACTS as SAMPLE_FACTS
from tests.conftest import small_dataset
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.language import CAUSAL, register_language


@pytest.fixture
def with_sample_model(registered: Database) -> Database:
    """A database that knows the packaged base model."""
    with registered.transaction() as session:
        session.add(
            BaseModelRow(name=SAMPLE_MODEL, source="sample", status="ready", facts_json=SAMPLE_FACTS.model_dump())
        )
    return registered


@pytest.mark.slow
def test_a_spoilt_sample_study_is_submitted_anew(with_sample_model: Database, settings: Settings) -> None:
    first = serve.sample_study(settings, lambda: None)
    assert serve.sample_study(settings, lambda: None) == first
    with with_sample_model.transaction() as session:
        study_service.cancel(session, SilentBell(), first)
    assert serve.sample_study(settings, lambda: None) == first + 1


def test_a_sample_study_of_an_earlier_version_is_found_unless_its_runs_would_differ(
    with_sample_model: Database, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stored studies keep the test of equivalence that they were planned with, so an upgrade started a second one."""
    first = serve.sample_study(settings, lambda: None)
    _changed(with_sample_model, first, alternative="equivalence", margin_points=3.0)
    assert serve.sample_study(settings, lambda: None) == first
    assert "is not continued" not in capsys.readouterr().out
    _changed(with_sample_model, first, seeds=[0, 1])
    assert serve.sample_study(settings, lambda: None) == first + 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"Study {first} of the sample is not continued, and a new one starts: its seeds differ" in said


def _changed(database: Database, study: int, **values: object) -> None:
    with database.transaction() as session:
        row = session.get_one(StudyRow, study)
        row.spec_json = row.spec_json | values


@pytest.mark.slow
def test_a_users_newer_version_of_the_samples_name_leaves_the_sample_study_what_it_is(
    with_sample_model: Database, settings: Settings, files: Files
) -> None:
    first = serve.sample_study(settings, lambda: None)
    theirs = _of_their_own(with_sample_model, files, version=2)
    assert serve.sample_study(settings, lambda: None) == first
    with with_sample_model.transaction() as session:
        study_service.cancel(session, SilentBell(), first)
    again = serve.sample_study(settings, lambda: None)
    assert serve.sample_study(settings, lambda: None) == again == first + 1
    with with_sample_model.reading() as session:
        studied = [session.get_one(StudyRow, which) for which in (first, again)]
        assert studied[0].dataset_id == studied[1].dataset_id != theirs
        assert [row.spec.dataset for row in studied] == [SAMPLE_DATASET, f"{SAMPLE_DATASET}@1"]
        assert [row.version for row in rows_of_data.versions(session, SAMPLE_DATASET)] == [2, 1]
        newest = rows_of_data.by_name(session, SAMPLE_DATASET)
        assert newest and newest.id == theirs


def test_where_a_user_has_the_samples_names_the_sample_stands_beside_theirs(
    with_sample_model: Database, settings: Settings, files: Files
) -> None:
    theirs = [_of_their_own(with_sample_model, files, name) for name in (SAMPLE_DATASET, sample.SUMMARIES)]
    study = serve.sample_study(settings, lambda: None)
    assert serve.sample_study(settings, lambda: None) == study
    with with_sample_model.reading() as session:
        studied = session.get_one(StudyRow, study)
        assert studied.spec.dataset == f"{SAMPLE_DATASET}-sample"
        made = {row.name: row.id for row in rows_of_data.everyone(session)}
    assert [made[SAMPLE_DATASET], made[sample.SUMMARIES]] == theirs
    assert made.keys() == {
        "small", SAMPLE_DATASET, f"{SAMPLE_DATASET}-sample", sample.SUMMARIES, f"{sample.SUMMARIES}-sample",
        sample.GENERAL_TEXT,
    }  # fmt: skip
    assert studied.dataset_id == made[f"{SAMPLE_DATASET}-sample"]


def test_where_a_user_has_the_base_models_name_the_packaged_one_stands_beside_it(
    registered: Database, settings: Settings
) -> None:
    with registered.transaction() as session:
        for name, source in ((SAMPLE_MODEL, "directory"), (f"{SAMPLE_MODEL}-sample", "sample")):
            facts = SAMPLE_FACTS.model_dump()
            session.add(BaseModelRow(name=name, source=source, location="", status="ready", facts_json=facts))
    study = serve.sample_study(settings, lambda: None)
    assert serve.sample_study(settings, lambda: None) == study
    with registered.reading() as session:
        assert session.get_one(StudyRow, study).spec.base_model == f"{SAMPLE_MODEL}-sample"


def test_a_users_version_that_is_not_ready_has_the_name_too(
    with_sample_model: Database, settings: Settings, files: Files
) -> None:
    with with_sample_model.transaction() as session:
        session.add(DatasetRow(name=SAMPLE_DATASET, status="preparing"))
    study = serve.sample_study(settings, lambda: None)
    with with_sample_model.reading() as session:
        assert session.get_one(StudyRow, study).spec.dataset == f"{SAMPLE_DATASET}-sample"


def _of_their_own(database: Database, files: Files, name: str = SAMPLE_DATASET, version: int = 1) -> int:
    """A version of other rows under a name."""
    labels, rows = small_dataset()
    with database.transaction() as session:
        row = datasets.register(session, files, name="theirs", title="", form="labelled", labels=labels, rows=rows)
        row.name, row.version = name, version
    return row.id


def test_the_language_study_is_of_smollm2_on_titles(registered: Database, settings: Settings) -> None:
    name = SAMPLE_LANGUAGE_MODEL
    with registered.transaction() as session:
        register_language(session)
        known = base_models.by_name(session, CAUSAL)
        assert known
        facts = known.facts_json
        session.add(BaseModelRow(name=name, source="sample", location="smollm2", status="ready", facts_json=facts))
    part = sample.of_task("causal-lm")
    first = serve.sample_study(settings, lambda: None, part)
    assert serve.sample_study(settings, lambda: None, part) == first
    with registered.reading() as session:
        study = session.get_one(StudyRow, first)
        spec = study.spec
        dataset = rows_of_data.by_id(session, study.dataset_id)
        assert dataset and dataset.facts.counts == {"train": 480, "validation": 60, "test": 320}
    assert (spec.task, spec.verdict_metric, spec.base_model) == ("causal-lm", "rouge_l", name)
    assert [arm.title for arm in spec.arms] == ["full", "LoRA r=8"]
    assert [arm.learning_rate for arm in spec.arms] == [1.3e-4, 1.3e-3], "the default rates for a width of 576"
    detectable = detectable_difference(320, len(spec.seeds), 0.35, graded=True)
    assert detectable < spec.margin_points / 100, "the study can find that LoRA is enough"


def test_the_embeddings_study_is_of_minilm_on_headlines_and_articles() -> None:
    part = sample.of_task("sentence-embeddings")
    assert (part.dataset, part.format, part.model) == ("bbc-articles", "query-passage", SAMPLE_MODEL)
    counts = {split: sum(row.split == split for row in part.rows) for split in ("train", "validation", "test")}
    assert counts == {"train": 480, "validation": 60, "test": 320}
    assert len({row.query for row in part.rows if isinstance(row, QueryRow)}) == 860
    spec = part.study("bbc-articles", SAMPLE_MODEL)
    assert (spec.task, spec.verdict_metric, [arm.title for arm in spec.arms]) == (
        "sentence-embeddings",
        "mrr_at_10",
        ["full", "LoRA r=8"],
    )


def test_a_task_without_a_packaged_model_says_so() -> None:
    with pytest.raises(Invalid, match="no sample of the task seq2seq-lm"):
        sample.of_task("seq2seq-lm")


def test_the_sample_of_preferences_is_the_same_everywhere_with_unseen_templates_and_no_length_bias() -> None:
    part = sample.of_task("preference")
    assert (part.dataset, part.format, part.model) == ("shop-replies", "preference", SAMPLE_LANGUAGE_MODEL)
    tally = Tally("preference")
    tally.add(part.rows)
    assert tally.facts.counts == {"train": 160, "validation": 24, "test": 160}
    assert tally.facts.content_hash.startswith("b713391f4be3")
    rows = [row for row in part.rows if isinstance(row, PreferenceRow)]
    replies = {
        split: {re.sub(r"\d+|blue|green|white|grey|[A-Z][a-z]+(?= \.|\.$)", "", row.chosen) for row in rows
                if row.split == split} for split in ("train", "test")
    }  # fmt: skip
    assert not replies["train"] & replies["test"]
    longer = sum(len(row.chosen) > len(row.rejected) for row in rows)
    shorter = sum(len(row.chosen) < len(row.rejected) for row in rows)
    assert abs(longer - shorter) < 0.15 * len(rows)
    spec = part.study(part.dataset, part.model)
    assert (spec.task, spec.verdict_metric, spec.training.preference_loss) == (
        "preference",
        "preference_accuracy",
        "dpo",
    )


def test_the_sample_of_tags_is_the_same_everywhere_and_has_unseen_names() -> None:
    part = sample.of_task("token-classification")
    tally = Tally("tagged", part.labels)
    tally.add(part.rows)
    assert tally.facts.counts == {"train": 800, "validation": 150, "test": 600}
    assert tally.facts.content_hash.startswith("42a554be40df")
    words = {split: {w for row in part.rows if row.split == split for w in row.tokens} for split in ("train", "test")}  # type: ignore[union-attr]
    assert len(words["test"] - words["train"]) > 40
    spec = part.study(part.dataset, part.model)
    assert (spec.task, spec.verdict_metric, spec.margin_points) == ("token-classification", "item_entity_f1", 2.0)
    assert detectable_difference(600, len(spec.seeds), 0.84, graded=True) < spec.margin_points / 100


def test_the_sample_of_images_is_the_same_everywhere_and_new_to_its_model() -> None:
    part = sample.of_task("image-classification")
    assert (part.dataset, part.format, part.model) == ("digits-5-to-9", "labelled-images", "digits-vit")
    tally = Tally("labelled-images", part.labels)
    tally.add(part.rows)
    assert tally.facts.counts == {"train": 400, "validation": 80, "test": 416}
    assert tally.facts.content_hash.startswith("363ea0098946")
    assert set(part.labels).isdisjoint("01234"), "the digits that the base model learned from"
    spec = part.study(part.dataset, part.model)
    assert (spec.task, spec.verdict_metric, spec.margin_points) == ("image-classification", "accuracy", 2.0)
