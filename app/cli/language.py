"""The language in which commands speak: VEZNA_LANGUAGE, else that of the environment's locale, else English.

What `--json` prints is for programs, so it is English in every environment.
"""

from collections.abc import Mapping, Sequence

from app.words.i18n import DEFAULT, LANGUAGES

VARIABLE = "VEZNA_LANGUAGE"
LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")
"""The first that is set decides, as in gettext."""


def language_of(environment: Mapping[str, str], arguments: Sequence[str] = ()) -> str:
    """The language of a command with these arguments: `bg` for `LANG=bg_BG.UTF-8`."""
    if "--json" in arguments:
        return DEFAULT
    chosen = next((environment[name] for name in (VARIABLE, *LOCALE) if environment.get(name)), "")
    code = chosen.partition(".")[0].partition("_")[0].lower()
    return code if code in LANGUAGES else DEFAULT
