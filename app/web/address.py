"""The current page's address with its view parameters, and links to the same page with other view parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request


@dataclass(frozen=True)
class Address:
    """A path and its query. Sections of a page that know nothing of each other keep each other's words."""

    path: str
    query: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, request: Request, path: str) -> "Address":
        """What the request asked for, of the page at `path`; empty words say nothing and go."""
        return cls(path, tuple((name, word) for name, word in request.query_params.multi_items() if word))

    def to(self, change: Mapping[str, object], anchor: str = "") -> str:
        """The same page with other words; an empty one takes its name out."""
        kept = [(name, word) for name, word in self.query if name not in change]
        words = kept + [(name, str(word)) for name, word in change.items() if word not in ("", None)]
        return self.path + (f"?{urlencode(words)}" if words else "") + (f"#{anchor}" if anchor else "")

    def beside(self, *names: str) -> list[tuple[str, str]]:
        """The words that a form whose fields have these names must keep."""
        return [(name, word) for name, word in self.query if name not in names]

    @property
    def words(self) -> str:
        """The query alone: `?x=time`, or nothing."""
        return f"?{urlencode(self.query)}" if self.query else ""
