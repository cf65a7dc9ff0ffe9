"""Every sentence of the product has its Bulgarian, and a catalogue that lacks some says which."""

from pathlib import Path

import pytest
from babel.messages.catalog import Catalog

from app.settings import ROOT
from app.words.i18n import DEFAULT, looked_up, looked_up_in, speak
from tests.support.checks import catalogue

HOW = """%(number)s messages of app/locale/bg/LC_MESSAGES/messages.po need a translator.
Run `make translation LANGUAGE=bg`, then translate in that file what it names:
%(faults)s"""


@pytest.mark.slow
def test_every_message_is_translated_into_bulgarian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sources = catalogue.extracted()
    faults = catalogue.faults("bg", sources)
    if faults:
        pytest.fail(HOW % {"number": len(faults), "faults": "\n".join(faults)}, pytrace=False)
    stored = catalogue.path_of("bg").read_text(encoding="utf-8")
    assert stored == catalogue.text_of("bg", catalogue.updated("bg", sources)), "make translation LANGUAGE=bg sorts it"


def test_a_word_is_translated_by_its_context() -> None:
    speak("bg")
    try:
        assert (looked_up_in("button", "Run"), looked_up("Run")) == ("Изпълнете", "Изпълнение")
    finally:
        speak(DEFAULT)
    assert looked_up_in("button", "Run") == "Run"


@pytest.mark.parametrize(
    ("english", "entry", "fault"),
    [
        ("Runs", 'msgid "Runs"\nmsgstr "Изпълнения"', []),
        ("Runs", 'msgid "Runs"\nmsgstr ""', ["not translated: Runs"]),
        ("Runs", "", ["not translated: Runs"]),
        ("Runs", '#, fuzzy\nmsgid "Runs"\nmsgstr "Изпълнения"', ["fuzzy: Runs"]),
        ("Runs", 'msgid "Runs"\nmsgstr "Изпълнения"\n\nmsgid "Old"\nmsgstr "Старо"', ["no longer in the sources: Old"]),
        ("%(a)s of %(b)s", 'msgid "%(a)s of %(b)s"\nmsgstr "от %(b)s: %(a)s"', []),
        ("%(a)s of %(b)s", 'msgid "%(a)s of %(b)s"\nmsgstr "%(a)s"', ["%(a)s %(b)s became %(a)s: %(a)s of %(b)s"]),
        ("90 %% of %(a)s", 'msgid "90 %% of %(a)s"\nmsgstr "90 % от %(a)s"', ["%% %(a)s became %(a)s: 90 %% of %(a)s"]),
        (
            ("%(num)s run", "%(num)s runs"),
            'msgid "%(num)s run"\nmsgid_plural "%(num)s runs"\nmsgstr[0] "едно"\nmsgstr[1] ""',
            ["not translated: %(num)s run"],
        ),
        (
            ("%(num)s run", "%(num)s runs"),
            'msgid "%(num)s run"\nmsgid_plural "%(num)s runs"\nmsgstr[0] "едно"\nmsgstr[1] "%(num)s"',
            [],
        ),
    ],
)
def test_a_fault_of_a_catalogue_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, english: str | tuple[str, str], entry: str, fault: list[str]
) -> None:
    file = tmp_path / "bg" / "LC_MESSAGES" / "messages.po"
    file.parent.mkdir(parents=True)
    file.write_text(catalogue.HEADER.format(name="Bulgarian", code="bg", plural="nplurals=2; plural=(n != 1);") + entry)
    monkeypatch.setattr(catalogue, "LOCALES", tmp_path)
    sources = Catalog()
    sources.add(english)
    assert catalogue.faults("bg", sources) == fault
