"""What the browser complains of: breaches of the content security policy, errors of scripts, missing files."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import ConsoleMessage, Page

REPORTS = (
    "addEventListener('securitypolicyviolation', e => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`))"
)
SETTLED = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"


class Complaints:
    """Listens to a page."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._heard: list[str] | None = None
        page.add_init_script(REPORTS)
        page.on("console", self._message)
        page.on("pageerror", lambda error: self._hear(str(error)))

    @contextmanager
    def collected(self) -> Iterator[list[str]]:
        """The complaints of what is done within; complete at its end."""
        self._heard = heard = []
        yield heard
        self.settle()
        self._heard = None

    def settle(self) -> None:
        """Wait until the page has said what it has to say by now."""
        self._page.evaluate(SETTLED)

    def _message(self, message: ConsoleMessage) -> None:
        # a file has no icon of its own, so that the browser looks for one at its usual place
        if message.type in ("error", "warning") and not message.location["url"].endswith("/favicon.ico"):
            self._hear(message.text)

    def _hear(self, line: str) -> None:
        if self._heard is not None:
            self._heard.append(line)
