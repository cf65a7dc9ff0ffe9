"""The models of the playground, each with its answer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.inference import EntitySpan, Prediction, Subject, TaggedWord
from app.features.serving.pages.playground.form import PlaygroundQuery
from app.features.serving.services.inference import Answerer
from app.store.tables import RunRow
from app.words.i18n import gettext as _


@dataclass(frozen=True)
class Bar:
    """The probability of a label."""

    label: str
    probability: float
    top: bool

    @property
    def width(self) -> float:
        """Per cent."""
        return round(100 * self.probability, 2)


@dataclass(frozen=True)
class Lane:
    """A model."""

    name: str
    """In the query."""
    subject: Subject
    run: RunRow
    family: str
    title: str
    about: str
    hollow: int
    """The second model of a family has a hollow marker, later ones a half-filled one."""
    prediction: Prediction | None = None
    limit: int | None = None

    @property
    def bars(self) -> list[Bar]:
        """The class probabilities, in the order of the labels."""
        known = self.prediction.probabilities if self.prediction else None
        label = self.prediction.label if self.prediction else None
        return [Bar(name, p, name == label) for name, p in (known or {}).items()]

    def pieces(self, text: str) -> list[tuple[str, EntitySpan | None]]:
        """The text in pieces, those that are entities with these."""
        entities = (self.prediction.entities or []) if self.prediction else []
        found: list[tuple[str, EntitySpan | None]] = []
        end = 0
        for entity in entities:
            found += [(text[end : entity.start], None), (entity.text, entity)]
            end = entity.end
        return [piece for piece in (*found, (text[end:], None)) if piece[0]]


@dataclass(frozen=True)
class WordTags:
    """A word, as each model tags it."""

    text: str
    tags: Sequence[TaggedWord]

    @property
    def differ(self) -> bool:
        """The models do not agree."""
        return len({word.tag for word in self.tags}) > 1


def lanes_of(query: PlaygroundQuery, subjects: Sequence[Subject], answerers: Sequence[Answerer]) -> list[Lane]:
    """The models of a query, without answers; `subjects` and `answerers` are those of its models, in their order."""
    lanes, seen = [], Counter[str]()
    for name, subject, answers in zip(dict.fromkeys(query.model), subjects, answerers, strict=True):
        run = answers.run
        if subject.base:
            about = _("zero-shot") if answers.writes else _("head not trained, so its answer is chance")
            lanes.append(Lane(name, subject, run, "base", _("base model"), f"{run.spec.base_model}, {about}", 0))
            continue
        about = _("run %(run)s, seed %(seed)s", run=run.id, seed=run.seed)
        title = run.arm or run.spec.method.facts.name
        lanes.append(Lane(name, subject, run, run.family, title, about, min(seen[run.family], 2)))
        seen[run.family] += 1
    return lanes
