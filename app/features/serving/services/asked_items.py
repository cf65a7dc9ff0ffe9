"""Test items of studies as their models were asked."""

from typing import NamedTuple

from sqlalchemy.orm import Session

from app.domain.data.turns import Message, stored
from app.domain.errors import Invalid, NotFound
from app.services.runs.predictions import of_artifact
from app.store.files.files import Files
from app.store.runs import artifacts
from app.store.runs import queries as runs
from app.store.studies import queries as studies


class AskedItem(NamedTuple):
    """What models are asked by a test item that is a conversation."""

    text: str
    """For people."""
    turns: list[Message]
    tools: str | None
    """As JSON."""


def asked(session: Session, files: Files, study_id: int, position: int) -> AskedItem | None:
    """What the evaluations of a study asked by the test item at a position; None if that is no conversation, or if no
    file has it. Raises NotFound."""
    studies.get(session, study_id)
    members = [run.id for run in runs.of_study(session, study_id)]
    for artifact in artifacts.predictions_of(session, members).values():
        try:
            found = of_artifact(files, artifact, texts=True)
        except (NotFound, Invalid):
            continue
        if position < found.table.num_rows and (turns := found.at("turns", position)) is not None:
            told = [stored(turn["role"], turn["content"], turn.get("more")) for turn in turns]
            return AskedItem(found.at("asked", position), told, found.at("tools", position))
    return None
