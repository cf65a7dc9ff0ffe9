"""Every word can be translated, and the catalogues are in step with the sources."""

import io

import pytest
from babel.messages import Catalog
from babel.messages.pofile import read_po
from babel.support import Translations

from app.domain.failures import FAILURES
from app.domain.methods import METHODS
from app.web import i18n
from app.web.catalogue import TEMPLATE, extracted, languages, text, updated
from app.web.templating import ENVIRONMENT

STALE = "run: python -m app.web.catalogue"


@pytest.fixture(scope="module")
def template() -> Catalog:
    """What the sources say."""
    return extracted()


def test_the_template_is_in_step_with_the_sources(template: Catalog) -> None:
    assert TEMPLATE.read_text() == text(template), STALE


def test_every_language_is_in_step_with_the_template(template: Catalog) -> None:
    assert languages()
    for file in languages():
        assert file.read_text() == updated(file, template), STALE


def test_words_of_templates_python_and_the_domain_are_in_the_template() -> None:
    messages = {message.id for message in read_po(io.BytesIO(TEMPLATE.read_bytes()))}
    assert {
        "No studies yet",
        "There is no such page",
        "Not in its present state",
        "Must be above %(gt)s",
        *FAILURES.values(),
        *(words for facts in METHODS.values() for words in (facts.name, facts.summary, facts.formula)),
        "%(architecture)s has no block %(beyond)s",
    } <= messages


def test_a_missing_catalogue_means_english() -> None:
    i18n.speak("eo")
    try:
        assert i18n.gettext("%(num)s things", num=2) == "2 things"
        assert i18n.ngettext("%(num)s run", "%(num)s runs", 1) == "1 run"
    finally:
        i18n.speak(i18n.DEFAULT)


def test_a_page_speaks_the_language_of_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shouting(Translations):
        """A language in which everything is loud."""

        def ugettext(self, message: object) -> str:
            """Louder."""
            return str(message).upper()

    monkeypatch.setattr(i18n, "translations", lambda _code: Shouting())
    assert ENVIRONMENT.from_string('{{ _("No studies yet") }}').render() == "NO STUDIES YET"
