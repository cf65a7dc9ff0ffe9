"""The query string of the playground: everything that its page shows is in its address."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from app.domain.comparison.flips import FlipKind
from app.domain.errors import Invalid
from app.domain.messages import _, at_most
from app.features.serving.rules import MOST_CHARACTERS, MOST_SUBJECTS, Subject
from app.store.database.page import LARGEST_ID

BASE = "base"
"""In `model`: the base model of the first run."""
TOKENS = (24, 48, 96, 192)
TEMPERATURE = 0.8
"""Of sampling."""
MOST_SEED = 2**31 - 1
MOST_TYPED = 6_000
"""Characters that can be typed: the text is in the address, at up to 9 bytes a character, and servers read 64 KiB."""


@dataclass(frozen=True)
class PlaygroundQuery:
    """The models, the text and the settings."""

    model: tuple[str, ...] = ()
    """Numbers of runs, and `base`."""
    text: str = ""
    seed: str = ""
    """Of sampling; empty is greedy."""
    tokens: str = ""
    chat: str = ""
    """`1`: the text is a user's turn in the model's chat template."""
    base: str = ""
    """Name of a base model whose runs are offered."""
    study: str = ""
    """With `arm`, `kind` and `item`: the text is a test item of a study that flips."""
    arm: str = ""
    kind: str = ""
    item: str = ""

    def address(self, path: str = "/playground") -> str:
        """The address of this query."""
        pairs = [("model", name) for name in self.model]
        pairs += [(name, str(value)) for name, value in vars(self).items() if value and name != "model"]
        return f"{path}?{urlencode(pairs)}" if pairs else path

    def without(self, name: str) -> "PlaygroundQuery":
        """Without a model."""
        return replace(self, model=tuple(other for other in self.model if other != name))

    @property
    def most_typed(self) -> int:
        """Characters of the text that can be typed."""
        return MOST_TYPED

    @property
    def subjects(self) -> list[Subject]:
        """The models, in their order. Raises Invalid."""
        runs = [_number(name) for name in self.model if name != BASE]
        if not runs:
            return []
        if len(self.model) > MOST_SUBJECTS:
            raise Invalid.field("model", _("Too many models are chosen"), at_most(MOST_SUBJECTS))
        first = runs[0]
        return [Subject(run_id=first, base=True) if name == BASE else Subject(run_id=_number(name))
                for name in dict.fromkeys(self.model)]  # fmt: skip

    @property
    def max_new_tokens(self) -> int | None:
        """None: as the runs' evaluations."""
        return int(self.tokens) if self.tokens in map(str, TOKENS) else None

    @property
    def sampling_seed(self) -> int | None:
        """None is greedy. Raises Invalid."""
        if not self.seed:
            return None
        if not self.seed.isascii() or not self.seed.isdecimal() or int(self.seed) > MOST_SEED:
            raise Invalid.field("seed", _("A seed is a whole number"), _("Use 0 to %(most)s", most=MOST_SEED))
        return int(self.seed)

    @property
    def flip(self) -> tuple[int, FlipKind, int] | None:
        """Study, kind and position of the test item; None where the text is no item."""
        numbers = [self.study, self.item]
        known = all(n.isascii() and n.isdecimal() and int(n) <= LARGEST_ID for n in numbers) and self.kind in set(
            FlipKind
        )
        return (int(self.study), FlipKind(self.kind), int(self.item)) if known else None


def checked_text(text: str) -> str:
    """The text. Raises Invalid if it is too long."""
    if len(text) > MOST_CHARACTERS:
        raise Invalid.field("text", _("The text has %(n)s characters", n=len(text)), at_most(MOST_CHARACTERS))
    return text


def _number(name: str) -> int:
    if not name.isascii() or not name.isdecimal() or int(name) > LARGEST_ID:
        raise Invalid.field(
            "model", _("%(name)r is neither the number of a run nor base", name=name), _("Choose a run")
        )
    return int(name)


def names(values: Sequence[str]) -> tuple[str, ...]:
    """The models of a query, each once, without empty ones."""
    return tuple(dict.fromkeys(value for value in values if value))
