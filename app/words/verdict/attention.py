"""What it costs that an arm adapts attention layers alone."""

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.methods.lora import Ranked
from app.domain.methods.targets import ALL_LINEAR
from app.words.i18n import gettext as _
from app.words.verdict.verdict import difference_text


def attention_arms(study: StudyComparison) -> list[StudyArm]:
    """Arms that adapt attention layers alone and are not shown to be good enough; beside the reference."""
    return [
        arm
        for arm in study.others
        if arm.title in study.attention_only and arm.difference and not arm.verdict_kind.good_enough
    ]


def attention_text(study: StudyComparison, arm: StudyArm) -> str:
    """Beside the best low-rank arm on all linear layers, or beside a measurement on the sample."""
    wide = [other for other in study.others if other.difference and _all_linear(other)]
    if not wide:
        return _(
            "%(arm)s adapts attention layers only. In the sample study (BBC headlines, MiniLM, 4 seeds), LoRA r=8 on "
            "query and value was 3.8 ± 3.0 points worse than full fine-tuning; on all linear layers the difference was "
            "−0.3 ± 3.1, with 36 %% of the memory",
            arm=arm.title,
        )
    best = max(wide, key=lambda other: other.difference.delta if other.difference else 0.0)
    return _(
        "%(arm)s adapts attention layers only: it differs from %(reference)s by %(difference)s points, and %(other)s, "
        "on all linear layers, by %(less)s",
        arm=arm.title,
        reference=study.reference.title,
        difference=_gap(arm),
        other=best.title,
        less=_gap(best),
    )


def _all_linear(arm: StudyArm) -> bool:
    method = arm.spec.method
    return isinstance(method, Ranked) and method.target_modules == ALL_LINEAR


def _gap(arm: StudyArm) -> str:
    return difference_text(arm)
