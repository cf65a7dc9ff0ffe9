"""Blind comparison of the answers of two runs of a study, by people."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.domain.comparison.statistics.preference import BlindItem, Preference, Preferred, Rating, ordered, preference
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.domain.tasks import TASKS
from app.features.judging.queries import blind_ratings
from app.features.judging.tables import BlindRatingRow
from app.services.runs.predictions import of_artifact
from app.store.files.files import Files
from app.store.runs import artifacts
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow


@dataclass(frozen=True)
class BlindPair:
    """Two runs of a study with their answers."""

    first: RunRow
    second: RunRow
    items: Sequence[BlindItem]
    """In the random order of the pair."""
    margin: float
    """Of the study, as a fraction."""

    @property
    def key(self) -> tuple[int, int]:
        """Ids of the runs."""
        return self.first.id, self.second.id

    @property
    def differing(self) -> int:
        """Number of items whose answers differ."""
        return sum(not item.alike for item in self.items)


def candidates(session: Session, study_id: int) -> list[RunRow]:
    """The runs of a study with generated answers, in the order of its arms and seeds. Raises NotFound."""
    study = studies.get(session, study_id)
    if not TASKS[study.spec.task].generates:
        return []
    members = [run for run in runs.of_study(session, study_id) if run.trial_round is None]
    written = artifacts.predictions_of(session, [run.id for run in members])
    return [run for run in members if run.status == RunStatus.SUCCEEDED and run.id in written]


def pair(session: Session, files: Files, study_id: int, one: int, other: int) -> BlindPair:
    """Two runs with their answers; the lower id is the first. Raises NotFound for runs that are no candidates of the
    study, or whose file is gone, and Invalid for one run twice, and for runs without the same items."""
    if one == other:
        what = _("Run %(run)s cannot be compared with itself", run=one)
        raise Invalid.field("second", what, _("Choose another run"))
    members = {run.id: run for run in candidates(session, study_id)}
    for run_id in (one, other):
        if run_id not in members:
            raise NotFound(_("Study %(study)s has no run %(run)s with generated answers.", study=study_id, run=run_id))
    first, second = (members[run_id] for run_id in sorted((one, other)))
    stored = artifacts.predictions_of(session, [first.id, second.id])
    tables = [of_artifact(files, stored[run.id], texts=True).table for run in (first, second)]
    if not all({"answer", "text"} <= set(table.column_names) for table in tables):
        what = _("Runs %(one)s and %(other)s have no generated answers", one=first.id, other=second.id)
        raise Invalid.field("second", what, _("Choose runs on prompts and completions, or on messages"))
    answers = dict(zip(tables[1].column("item").to_pylist(), tables[1].column("answer").to_pylist(), strict=True))
    rows = tables[0].select(["item", "asked", "answer"]).to_pylist()
    items = [
        BlindItem(row["item"], row["asked"] or "", row["answer"] or "", answers[row["item"]] or "")
        for row in rows
        if row["item"] in answers
    ]
    if not items:
        what = _("Runs %(one)s and %(other)s have no test item in common", one=first.id, other=second.id)
        raise Invalid.field("second", what, _("Choose two runs on the same data"))
    margin = studies.get(session, study_id).spec.margin_points / 100
    return BlindPair(first, second, ordered(items, (first.id, second.id)), margin)


def next_item(session: Session, compared: BlindPair, user_id: int | None) -> tuple[BlindItem | None, int]:
    """The next item that a person has to rate, and how many the person has rated; None once all are."""
    mine = {row.item for row in blind_ratings.of_pair(session, *compared.key) if row.user_id == user_id}
    left = (item for item in compared.items if not item.alike and item.item not in mine)
    return next(left, None), len(mine)


def rate(session: Session, compared: BlindPair, item: str, preferred: Preferred, user_id: int | None) -> None:
    """Store a rating; a person's second one of an item replaces the first. Raises NotFound for an item that has no two
    answers, and Conflict for one whose turn it is not: what was rated so far is a random sample only in that order."""
    runs.lock(session, list(compared.key))  # so that two clicks make one rating
    if not any(one.item == item and not one.alike for one in compared.items):
        raise NotFound(_("There is no item %(item)s with two different answers.", item=item))
    for row in blind_ratings.of_pair(session, *compared.key):
        if (row.item, row.user_id) == (item, user_id):
            row.preferred = preferred.value
            return
    turn, _rated = next_item(session, compared, user_id)
    if turn is None or turn.item != item:
        raise Conflict(_("Another item is next. Rate the items in the order in which they are shown."))
    first, second = compared.key
    session.add(BlindRatingRow(first_id=first, second_id=second, item=item, preferred=preferred.value, user_id=user_id))


def result(session: Session, compared: BlindPair) -> Preference:
    """The preference by all ratings so far."""
    rows = blind_ratings.of_pair(session, *compared.key)
    ratings = [Rating(row.item, Preferred(row.preferred)) for row in rows]
    return preference(compared.items, ratings, compared.margin)
