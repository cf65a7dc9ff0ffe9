"""Tables in a terminal, and their language."""

import io
from typing import Any

import pytest
from rich.console import Console

from app.cli.language import language_of
from app.cli.terminal.comparison import comparison_table, remarks
from app.cli.terminal.progress import follow_study
from app.services.studies import studies as study_service
from app.web.api.studies.comparison import StudyComparisonOut
from app.words.i18n import DEFAULT, speak
from tests.support.filled import filled
from tests.support.filled.language import fill_language
from tests.support.rows.factories import empty_database, plain, seed_study
from tests.support.rows.tuned_studies import add_tuned_study


def shown(study_id: int, *, language: bool) -> str:
    """A study's table on a terminal of 80 columns."""
    with empty_database() as session:
        if language:
            fill_language(session)
        else:
            seed_study(session)
        found = study_service.comparison(session, study_id)
        comparison = StudyComparisonOut.of(study_id, found).model_dump(mode="json")
    console = Console(file=io.StringIO(), width=80)
    console.print(comparison_table(comparison))
    return plain(console.file.getvalue())  # type: ignore[attr-defined]


def test_the_table_names_its_metric_and_fits_a_terminal() -> None:
    text = shown(1, language=False)
    assert "Accuracy" in text and "Forget" not in text
    caption = " ".join(text.split())
    assert "accuracy on 646 test items; ± of a score: 95 % interval; of a difference: Holm-corrected" in caption
    assert caption.endswith("margin 2 points")
    assert "…" not in text


def test_a_language_models_table_has_its_metric_and_forgetting() -> None:
    lines = shown(1, language=True).splitlines()
    assert any("%" in line and "nats" in line for line in lines)
    assert "…" not in "".join(lines)
    assert any(line.startswith("full") and line.rstrip().endswith(("+0.310", "+0.311", "+0.312")) for line in lines)
    assert any(line.startswith("prompt") and "−0.00" in line for line in lines)
    assert "token accuracy on 640 test items" in "\n".join(lines)


def run(**changes: Any) -> dict[str, Any]:
    """A run as a stream of events tells it."""
    usual: dict[str, Any] = {
        "id": 1,
        "arm": "LoRA r=8",
        "seed": 0,
        "trial_round": None,
        "learning_rate": 2e-3,
        "status": "succeeded",
        "phase": None,
        "step": 205,
        "total_steps": 246,
        "train_loss": 1.9,
        "metric": "rouge_l",
        "validation_score": None,
        "score": 0.381,
        "failure_code": None,
    }
    return usual | changes


def test_an_ended_run_shows_its_score_by_name() -> None:
    console = Console(file=io.StringIO(), width=80)
    follow_study(console, [{"runs": [run()], "status": "finished"}])
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "run 1 (LoRA r=8, seed 0): ROUGE-L 0.381" in text
    assert "100 %" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tuning": {"failed": True}}, "every trial of a round failed"),
        ({"stopped": True}, "stopped"),
        ({"stopped": True, "statuses": {"cancelled": 2}}, "stopped, 2 cancelled"),
    ],
)
def test_an_arm_without_a_result_says_why(change: dict[str, Any], says: str) -> None:
    comparison = {"name": "s", "metric": "accuracy", "margin": 0.01, "items": 10, "phrase": "x", "interval": "±"}
    arm = {
        "title": "a",
        "statuses": {},
        "failed": "",
        "costs": None,
        "score": None,
        "verdict": None,
        "reference": True,
        "forgetting": None,
    }
    console = Console(file=io.StringIO(), width=120)
    console.print(comparison_table(comparison | {"arms": [arm | change]}))
    assert says in console.file.getvalue()  # type: ignore[attr-defined]


def lines(**options: Any) -> list[str]:
    """What stands below a study's table."""
    with empty_database() as session:
        filled.add_baselines(session, filled.three_arms())
        number = add_tuned_study(session, **options)
        comparison = StudyComparisonOut.of(number, study_service.comparison(session, number)).model_dump(mode="json")
    return [plain(line) for line in remarks(comparison)]


def test_a_terminal_shows_the_search_and_each_arms_choice() -> None:
    text = lines()
    [search] = [line for line in text if line.startswith("Grid search: 3 rates per arm, 1 seed per configuration, ")]
    assert search.endswith(
        "The verdict is about the configurations that the searches choose, not about the methods at any other."
    )
    assert any(line.startswith("- the verdict is about the configurations that the searches chose: ") for line in text)
    [full] = [line for line in text if line.startswith("- full: Searched: learning rate")]
    assert "Used 3 of 3 trials; " in full and "Chosen: learning rate " in full


def test_a_terminal_says_what_would_decide_and_how_far_arms_are_above_the_best_baseline() -> None:
    text = lines(margin_points=0.3)
    [undecided] = [line for line in text if "would decide" in line]
    assert undecided.startswith("- LoRA r=8, undecided: ")
    [above] = [line for line in text if line.startswith("- Points above the best baseline, TF-IDF: full +")]
    assert "head only +" in above


@pytest.mark.parametrize(
    ("environment", "arguments", "language"),
    [
        ({}, (), "en"),
        ({"LANG": "bg_BG.UTF-8"}, (), "bg"),
        ({"LANG": "bg_BG.UTF-8", "LC_ALL": "C.UTF-8"}, (), "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "bg_BG"}, (), "bg"),
        ({"LANG": "de_DE.UTF-8"}, (), "en"),
        ({"LANG": "en_GB.UTF-8", "VEZNA_LANGUAGE": "bg"}, (), "bg"),
        ({"LC_ALL": "", "LANG": "bg_BG.UTF-8"}, (), "bg"),
        ({"VEZNA_LANGUAGE": "bg"}, ("compare", "1", "--json"), "en"),
    ],
)
def test_the_environment_but_for_json(environment: dict[str, str], arguments: tuple[str, ...], language: str) -> None:
    assert language_of(environment, arguments) == language


def test_the_table_of_a_comparison_is_in_the_language_of_the_command() -> None:
    score = {"mean": 0.894, "low": 0.873, "high": 0.915, "usable": True}
    arm = {
        "title": "full",
        "score": score,
        "costs": {"peak_bytes": 2**30, "train_seconds": 54.2, "trainable_parameters": 75_653, "artifact_bytes": 2**19},
        "failed": "",
        "reference": True,
        "verdict": None,
        "statuses": {"succeeded": 3, "failed": 1},
    }
    comparison = {
        "name": "Headlines",
        "phrase": "–",
        "margin": 0.02,
        "metric": "accuracy",
        "items": 646,
        "interval": "95 %",
        "arms": [arm],
        "baselines": [],
    }
    speak("bg")
    try:
        table = comparison_table(comparison)
    finally:
        speak(DEFAULT)
    assert str(table.caption) == "точност върху 646 тестови примера; 95 %; граница 2 пункта"
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["full (1 неуспешно)", "89,4 ± 2,1", "еталон", "1024", "54,2", "75,7 k", "0,50"]
