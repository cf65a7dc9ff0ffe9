"""Positions: how many tokens a model can read at once, and how many a study needs.

    virtual tokens + max_length                       every row
    virtual tokens + a prompt + max_new_tokens        generated text of a decoder; beside an encoder it has positions
                                                      of its own

The worker checks the same on the loaded model (`worker.engine.data.batches.batches`,
`worker.engine.tasks.completions`)."""

from app.domain.errors import FieldError
from app.domain.messages import _, at_most
from app.domain.methods import AnyMethod
from app.domain.models.base_model import ModelFacts
from app.domain.runs.training import TrainingBudget
from app.domain.tasks import Task


def too_long(facts: ModelFacts, training: TrainingBudget, *, writes: bool) -> list[FieldError]:
    """Arguments that need too many positions with any method. `writes`: the model also generates text."""
    limit, errors = facts.max_positions, []
    if limit is not None and training.max_length > limit:
        what = _(
            "%(architecture)s has %(limit)s positions, so it cannot read %(max_length)s tokens",
            architecture=facts.architecture,
            limit=limit,
            max_length=training.max_length,
        )
        errors.append(FieldError("training.max_length", what, at_most(limit)))
    if limit is not None and writes and training.max_new_tokens >= limit:
        what = _(
            "%(architecture)s has %(limit)s positions, and %(max_new_tokens)s new tokens leave no room for a prompt",
            architecture=facts.architecture,
            limit=limit,
            max_new_tokens=training.max_new_tokens,
        )
        errors.append(FieldError("training.max_new_tokens", what, at_most(limit - 1)))
    return errors


def crowded(
    facts: ModelFacts, task: Task, training: TrainingBudget, method: AnyMethod, *, writes: bool
) -> FieldError | None:
    """Why a method's virtual tokens exceed the positions that would suffice without them, or None. The path is the
    method's."""
    limit, virtual = facts.max_positions, method.virtual_tokens
    task_model = facts.tasks.get(task)
    if limit is None or task_model is None:
        return None
    others = [("max_length", training.max_length, _("a max_length of %(max_length)s", max_length=training.max_length))]
    if writes and not task_model.encoder_decoder:
        new = training.max_new_tokens
        others.append(("max_new_tokens", new + 1, _("%(new)s new tokens after a prompt", new=new)))
    for name, taken, phrase in others:
        left = limit - taken
        if 0 <= left < virtual:
            what = _(
                "%(virtual)s virtual tokens and %(others)s exceed the %(limit)s positions of %(architecture)s",
                virtual=virtual,
                others=phrase,
                limit=limit,
                architecture=facts.architecture,
            )
            remedy = (
                _("Use at most %(left)s, or a smaller %(argument)s", left=left, argument=name)
                if left
                else _("Use a smaller %(argument)s", argument=name)
            )
            return FieldError("num_virtual_tokens", what, remedy)
    return None
