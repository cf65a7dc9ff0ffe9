"""What a study says of arms that adapt attention alone."""

from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.comparison.study import StudyComparison
from app.domain.methods import LoraSpec
from app.domain.studies.arms import ArmSpec
from app.services.studies import studies as study_service
from app.words.verdict.attention import attention_arms, attention_text
from app.words.verdict.caveats import caveats
from tests.support.rows.factories import FULL, LORA, empty_database, seed_study

WIDE = ArmSpec(name="wide", method=LoraSpec(r=8))
NARROW = LORA.model_copy(update={"name": "narrow"})


def weighed(*arms: ArmSpec, narrow: float) -> StudyComparison:
    session = empty_database()
    study = seed_study(session, arms=arms, accuracy={"full": 0.9, "LoRA r=8": narrow, "narrow": narrow, "wide": 0.895})
    return study_service.comparison(session, study)


def test_it_stands_beside_the_arm_on_all_linear_layers() -> None:
    study = weighed(FULL, WIDE, NARROW, narrow=0.85)
    [arm] = attention_arms(study)
    text = attention_text(study, arm)
    assert arm.title == "narrow"
    assert text.startswith("narrow adapts attention layers only: it differs from full by −5.0")
    assert "and wide, on all linear layers, by −0.5" in text
    assert text in [caveat.text for caveat in caveats(study)]


def test_without_such_an_arm_the_measurement_on_the_sample_is_quoted() -> None:
    study = weighed(FULL, LORA, narrow=0.85)
    assert "3.8 ± 3.0 points worse than full fine-tuning" in attention_text(study, study.others[0])


def test_an_arm_that_is_good_enough_is_not_warned_about() -> None:
    good = weighed(FULL, LORA, narrow=0.95)
    assert good.attention_only == {"LoRA r=8"}
    assert attention_arms(good) == []
    assert attention_arms(weighed(FULL, WIDE, narrow=0.9)) == []


def test_of_undecided_arms_one_on_attention_alone_leads_the_headline_only_if_there_is_no_other() -> None:
    """In these studies all LoRA arms cost the same, and the first would lead."""
    both, alone = weighed(FULL, NARROW, WIDE, narrow=0.888), weighed(FULL, NARROW, narrow=0.888)
    undecided = [arm.title for arm in both.others if arm.verdict_kind is VerdictKind.UNDECIDED]
    assert undecided == ["narrow", "wide"]
    assert [study.focus.title for study in (both, alone) if study.focus] == ["wide", "narrow"]


def test_an_arm_on_attention_alone_that_is_good_enough_leads_by_its_cost() -> None:
    good = weighed(FULL, NARROW, WIDE, narrow=0.95)
    assert good.focus and good.focus.title == "narrow"
