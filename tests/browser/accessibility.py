"""What axe-core finds in a page."""

from collections.abc import Sequence
from typing import Any, Literal

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

Theme = Literal["light", "dark"]

SCREENS: tuple[tuple[int, Sequence[Theme]], ...] = ((1280, ("light", "dark")), (390, ("light",)))
"""Widths, each with the themes that a page is looked at in."""
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOUR_RULES = ["color-contrast", "link-in-text-block"]
"""The rules of `TAGS` that look at colours, which are all that a theme changes (static/css/tokens.css)."""
# axe also lists whatever passed, and Playwright takes several times as long to bring that list here as axe to make it.
_RUN = "options => axe.run(options).then(found => found.violations)"

_TURNED = """() => Promise.allSettled(
    document.getAnimations().filter(one => one instanceof CSSTransition).map(one => one.finished))"""
"""Colours fade into those of another theme: between the two they are neither's."""


def violations(page: Page, themes: Sequence[Theme] = ("light",)) -> list[tuple[Theme, dict[str, Any]]]:
    """What is wrong with a page as it stands, and in which theme: by every rule in the first; by those of colours in
    the others, where the rest would find the same again."""
    page.evaluate(AXE_SCRIPT)
    found: list[tuple[Theme, dict[str, Any]]] = []
    for theme in themes:
        page.emulate_media(color_scheme=theme)
        page.evaluate(_TURNED)
        wanted: object = TAGS if theme == themes[0] else {"type": "rule", "values": COLOUR_RULES}
        wrong = page.evaluate(_RUN, {"runOnly": wanted, "resultTypes": ["violations"]})
        found += [(theme, violation) for violation in wrong]
    return found
