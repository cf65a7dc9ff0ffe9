"""A page as paper: what is left of its HTML where no server answers and no script runs.

What only works with them goes with all that is in it: forms, buttons, menus, navigation, and elements marked
`data-screen`. A link to the server becomes its words, a disclosure is open, and attributes of htmx are taken out.
"""

from html import escape
from html.parser import HTMLParser

from markupsafe import Markup

GOES = frozenset({"form", "button", "nav", "script", "link", "iframe", "dialog", "input", "select"})
"""Elements that go with what is in them."""
VOID = frozenset({"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"})
"""Elements that have no end."""
WIRED = ("hx-", "sse-", "data-rows", "data-copy", "formaction")
"""How attributes begin that speak to the server or to a script."""

Attributes = list[tuple[str, str | None]]


def on_paper(html: str) -> Markup:
    """The same without what needs a server. Only what a template has made belongs here: it is not cleaned."""
    reader = _Paper()
    reader.feed(str(html))
    reader.close()
    return Markup("".join(reader.kept))  # noqa: S704 parts of what a template has escaped


class _Paper(HTMLParser):
    """Passes on what stays, as it was written."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.kept: list[str] = []
        self._within: str | None = None
        """The element that goes, while reading what is in it."""
        self._depth = 0
        self._links: list[bool] = []
        """For each link that is open: whether it stays one."""

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        if self._within is not None:
            self._depth += tag == self._within
        elif _goes(tag, attrs):
            if tag not in VOID:
                self._within, self._depth = tag, 1
        elif tag == "a":
            self._links.append(_inside(attrs))
            if self._links[-1]:
                self._keep(self._written(tag, attrs))
        else:
            self._keep(self._written(tag, attrs))

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        if not _goes(tag, attrs):
            self._keep(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        if self._within is not None:
            self._depth -= tag == self._within
            if not self._depth:
                self._within = None
        elif tag != "a" or (self._links and self._links.pop()):
            self._keep(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self._keep(data)

    def handle_entityref(self, name: str) -> None:
        self._keep(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._keep(f"&#{name};")

    def _keep(self, text: str) -> None:
        if self._within is None:
            self.kept.append(text)

    def _written(self, tag: str, attrs: Attributes) -> str:
        """As it stands, unless an attribute must go or come: then names are in small letters, as HTML takes them."""
        stay = [(name, value) for name, value in attrs if not name.startswith(WIRED)]
        if tag == "details" and "open" not in dict(attrs):
            stay.append(("open", None))
        if stay == attrs:
            return self.get_starttag_text() or ""
        words = "".join(f" {name}" if value is None else f' {name}="{escape(value)}"' for name, value in stay)
        return f"<{tag}{words}>"


def _goes(tag: str, attrs: Attributes) -> bool:
    attributes = dict(attrs)
    classes = (attributes.get("class") or "").split()
    return tag in GOES or "data-screen" in attributes or (tag == "a" and "button" in classes)


def _inside(attrs: Attributes) -> bool:
    """The link leads within the page, or is a link's target only."""
    return (dict(attrs).get("href") or "#").startswith("#")
