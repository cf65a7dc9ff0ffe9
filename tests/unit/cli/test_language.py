"""Commands speak the language of their environment."""

import pytest

from app.cli.language import language_of
from app.cli.terminal.comparison import comparison_table
from app.words.i18n import DEFAULT, speak


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
def test_the_environment_decides_but_for_json(
    environment: dict[str, str], arguments: tuple[str, ...], language: str
) -> None:
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
