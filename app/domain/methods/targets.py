"""`target_modules`: what it may be, and the linear layers that it selects."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator

from app.domain.messages import _
from app.domain.models.architecture import LinearFacts, matching
from app.domain.models.patterns import LONGEST, matcher
from app.domain.validation import invalid_field

ALL_LINEAR = "all-linear"
"""PEFT's word for every linear layer but the head, and the default of `target_modules`. LoRA on query and value alone
was worse than full fine-tuning in the sample study. LoRA Without Regret (Schulman et al. 2025) reports that
attention-only LoRA is worse also at an equal number of parameters; the recipe `attention-only` did not reproduce that
on MiniLM."""
PEFT_DEFAULT = "peft-default"
"""PEFT's own choice for the architecture, often query and value only. PEFT writes it as None."""
NAMED_TARGETS = (ALL_LINEAR, PEFT_DEFAULT)
"""Texts that are no regular expression."""


def checked_targets(targets: object) -> object:
    """Validate as one error; pydantic would give one for each type of the union. None is PEFT's default, as in PEFT."""
    if targets is None:
        return PEFT_DEFAULT
    names = targets if isinstance(targets, list) else []
    named = bool(names) and all(isinstance(n, str) and n.strip() and n.isprintable() for n in names)
    if not named and not (isinstance(targets, str) and targets.strip() and targets.isprintable()):
        raise invalid_field(
            "", _("No module is named"), _('Use a list such as ["query", "value"], a pattern, or "all-linear"')
        )
    if isinstance(targets, str):
        if len(targets) > LONGEST:
            raise invalid_field(
                "",
                _("The pattern has %(length)s characters", length=len(targets)),
                _("Use at most %(most)s, or a list of names", most=LONGEST),
            )
        try:
            matcher(targets.strip())
        except ValueError as error:
            what = _("The pattern %(pattern)r is not valid: %(error)s", pattern=targets, error=error)
            raise invalid_field(
                "", what, _("Use a regular expression without look-around and back-references")
            ) from error
        return targets.strip()
    return [name.strip() for name in names] or targets


Targets = Annotated[list[str] | str, BeforeValidator(checked_targets)]


def chosen(targets: list[str] | str, modules: Sequence[LinearFacts]) -> list[LinearFacts]:
    """The linear layers that a list, a pattern or "all-linear" selects."""
    if targets == ALL_LINEAR:
        return list(modules)
    if isinstance(targets, str):
        matches = matcher(targets)
        return [m for m in modules if matches(m.name)]
    return matching(targets, modules)
