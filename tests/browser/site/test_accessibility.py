"""Every page, with its folded parts unfolded: no finding of axe-core, nothing wider than the screen, at both widths
and in both themes; and no complaint of the browser, of its policy, of a script, or of a missing file."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.accessibility import SCREENS, Theme, violations
from tests.browser.complaints import Complaints
from tests.browser.conftest import Site
from tests.browser.pages import everything
from tests.support.filled import estimates as filled_estimates
from tests.support.filled.lab import GUEST_COOKIE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # sixty pages, which take minutes on a busy machine

UNFOLD = "for (const folded of document.querySelectorAll('main details:not(.menu, .files *)')) folded.open = true"
TO_THE_END = "scrollTo(0, document.body.scrollHeight)"
"""Where the bar below a form covers nothing of it: what it covers elsewhere can be scrolled free."""


@pytest.mark.nightly
@pytest.mark.parametrize(("width", "themes"), SCREENS)
def test_every_page_is_accessible_and_fits(
    width: int, themes: Sequence[Theme], site: Site, chromium: Browser, tmp_path: Path
) -> None:
    pages = everything(site, tmp_path)
    found = []
    context = chromium.new_context(base_url=site.url, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    context.add_cookies([GUEST_COOKIE | {"url": site.url}])
    context.set_default_navigation_timeout(180_000)  # of a busy machine; the test itself has a limit
    page = context.new_page()
    complaints = Complaints(page)
    for name, path in pages.items():
        where = f"{name}, {width} px"
        page.emulate_media(color_scheme=themes[0])
        with complaints.collected() as heard:
            answer = page.goto(path)
            while filled_estimates.answer_requests(site.database):
                answer = page.goto(path)
            page.evaluate(UNFOLD)
            page.evaluate(TO_THE_END)
        assert answer is not None
        # of a page that is an error itself Chromium says so
        expected = "Failed to load resource" if answer.status >= 400 else None
        found += [f"{where}: {line}" for line in heard if expected is None or not line.startswith(expected)]
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wider > 0:
            found.append(f"{where}: {wider} px wider than the screen")
        for theme, violation in violations(page, themes):
            nodes = "; ".join(node["html"][:160] for node in violation["nodes"][:3])
            found.append(f"{where}, {theme}: {violation['id']} ({violation['impact']}): {nodes}")
        complaints.settle()  # axe applies inline styles
    context.close()
    assert found == [], "\n".join(found)
