"""A served application with one of everything in it, and Debian's Chromium before it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.filled import still_alive
from tests.support.servers.served import served as served_app

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
NEEDLESS = (
    # The suggestions below the address bar: for them alone each window has two processes, which take as long as a page.
    "WebUIOmniboxPopup", "WebUIOmniboxAimPopup",
    # Playwright's own list, in whose place this one comes.
    "AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled",
    "PreconnectToSearch",
)  # fmt: skip
"""What of Chromium no test needs."""


@dataclass(frozen=True)
class Site:
    """A served application."""

    url: str
    database: Database
    files: Files


@contextmanager
def served(home: Path, rows: Path) -> Iterator[Site]:
    """The application on a copy of a SQLite file, served on a free port; its doorbell is heard by nobody."""
    shutil.copy(rows, home / "vezna.sqlite")
    app = create_app(Settings(home=home, lease_seconds=3600))
    app.state.doorbell = SilentBell()
    with served_app(app) as url:
        yield Site(url, app.state.database, app.state.files)


@pytest.fixture
def site(tmp_path: Path, filled_file: Path) -> Iterator[Site]:
    """The application with one of everything in it."""
    with served(tmp_path, filled_file) as found:
        with found.database.transaction() as session:
            still_alive(session)
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser. Where there is none its tests are skipped, but not in CI.

    It ends with its file: while Playwright runs, no later test of the process could call `asyncio.run`."""
    if not shutil.which(CHROMIUM):
        need = f"The browser tests need Chromium, and {CHROMIUM} is not there: apt install chromium, or set CHROMIUM."
        (pytest.fail if os.environ.get("CI") else pytest.skip)(need)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", f"--disable-features={','.join(NEEDLESS)}"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def is_of_policy(line: str) -> bool:
    """A breach of the Content-Security-Policy, but for inline styles: axe and the browser's own viewer of images apply
    some. That no page does is tested by `test_accessibility.py`."""
    return "Content Security Policy" in line and not line.startswith("Applying inline style")


@contextmanager
def window(chromium: Browser, url: str) -> Iterator[Page]:
    """A window on a server. What the browser complains of fails the test."""
    context = chromium.new_context(base_url=url, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda line: complaints.append(line.text) if is_of_policy(line.text) else None)
    yield opened
    context.close()
    assert complaints == []


@pytest.fixture
def page(site: Site, chromium: Browser) -> Iterator[Page]:
    """A window on the site."""
    with window(chromium, site.url) as opened:
        yield opened
