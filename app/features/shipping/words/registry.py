"""The model registry in words."""

from collections.abc import Sequence

from app.features.shipping.rules.registry import Stage
from app.features.shipping.tables import ModelVersionRow, StageChangeRow
from app.words.i18n import gettext as _
from app.words.i18n import marked

STAGES: dict[Stage, str] = {
    Stage.CANDIDATE: marked("candidate"),
    Stage.CHAMPION: marked("champion"),
    Stage.RETIRED: marked("retired"),
}
NOTES: dict[Stage, str] = {
    Stage.CANDIDATE: marked("for tests"),
    Stage.CHAMPION: marked("the version that production uses; another champion retires"),
    Stage.RETIRED: marked("no longer used; its export can be deleted"),
}


def stage_name(stage: Stage | str) -> str:
    """`champion`."""
    return _(STAGES[Stage(stage)])


def stage_note(stage: Stage) -> str:
    """What a stage is for."""
    return _(NOTES[stage])


def change_text(change: StageChangeRow) -> str:
    """`candidate → champion`."""
    return stage_change(change.before, change.after)


def stage_change(before: Stage | str | None, after: Stage | str) -> str:
    """`candidate → champion`; without `before` the version is new."""
    if before is None:
        return _("registered as %(stage)s", stage=stage_name(after))
    return f"{stage_name(before)} → {stage_name(after)}"


def champion_sentence(versions: Sequence[ModelVersionRow]) -> str:
    """Which version is the champion."""
    for version in versions:
        if version.stage is Stage.CHAMPION:
            return _("Version %(number)s is the champion.", number=version.number)
    return _("No version is the champion.")


FILTERS = (stage_name, stage_note, change_text, champion_sentence)
