"""The playground: models side by side on one input."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy.orm import Session

from app.domain.comparison.flips import Flips
from app.domain.errors import FieldError, NotFound, VeznaError
from app.domain.tasks import ANSWERING, DECODERS, LANGUAGE, PICTURES, TASKS
from app.features.serving.pages.playground.form import BASE, TOKENS, PlaygroundQuery
from app.features.serving.rules import (
    MOST_PICTURE_BYTES,
    MOST_SUBJECTS,
    EntitySpan,
    Given,
    Picture,
    Prediction,
    Subject,
    TaggedWord,
    are_words,
)
from app.features.serving.services import asked_items, inference
from app.features.serving.services.inference import Answerer
from app.services.comparison import flips as flip_service
from app.services.comparison.flips import Slice
from app.services.data.images import image_of
from app.services.studies import studies as study_service
from app.store.data import queries as datasets
from app.store.files.files import Files
from app.store.models import queries as base_models
from app.store.runs import queries as runs
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


MOST_OFFERED = 100
Choice = tuple[str, str]


@dataclass(frozen=True)
class FlipPlace:
    """The test item that is shown, among those of its kind."""

    study_id: int
    study: str
    position: int
    total: int
    label: str | None
    text: str
    target: str | None
    next: int | None
    """Position of the next item."""
    words: list[str] | None = None
    """Of an item whose words are tagged."""
    name: str = ""
    """Of the item."""
    chat: bool = False
    """It is a conversation, of which `text` is what people read."""


@dataclass(frozen=True)
class Seen:
    """A picture as the first model reads it."""

    image: str
    """A PNG as a data URI."""
    size: tuple[int, ...]
    """Width and height."""
    stored_size: tuple[int, ...]
    """Of the picture itself, shrunk as those of datasets are."""


@dataclass(frozen=True)
class PlaygroundPage:
    """Models, input and answers."""

    query: PlaygroundQuery
    lanes: Sequence[Lane] = ()
    offers: Sequence[Choice] = ()
    """Runs that can be added."""
    writes: bool = False
    tags: bool = False
    """Its models tag words."""
    images: bool = False
    """Its models classify pictures."""
    picture: bytes | None = None
    """A test item's, or that which was sent."""
    seen: Seen | None = None
    chats: bool = False
    """Its base model has a chat template."""
    new_tokens: int | None = None
    """Of the first run's evaluation."""
    flip: FlipPlace | None = None
    errors: Sequence[FieldError] = ()
    problem: str = ""
    """Why there is no answer."""
    seconds: float | None = None
    bytes: int | None = None
    tokens_choices: Sequence[Choice] = field(default=())

    def errors_of(self, path: str) -> list[FieldError]:
        given = path == ("picture" if self.images else "text")
        return [error for error in self.errors if error.path == path or (given and "input" in error.path)]

    @property
    def _trained(self) -> Sequence[Lane]:
        """The models whose agreement counts: not the base, whose head is untrained, unless it alone has answered."""
        return [lane for lane in self.lanes if lane.prediction and not lane.subject.base] or self.lanes

    @property
    def answers(self) -> dict[str, str]:
        """The label of each model that has answered, by its title."""
        return {
            f"{lane.title} {lane.run.id}": lane.prediction.label
            for lane in self._trained
            if lane.prediction and lane.prediction.label is not None
        }

    @property
    def tagged(self) -> dict[str, Sequence[EntitySpan]]:
        """The entities that each model has found, by its title."""
        return {
            f"{lane.title} {lane.run.id}": lane.prediction.entities
            for lane in self._trained
            if lane.prediction and lane.prediction.entities is not None
        }

    @property
    def words(self) -> list[WordTags]:
        """The words of the text, with the tag of each lane that has answered."""
        rows = [lane.prediction.words or [] for lane in self.lanes if lane.prediction]
        return [WordTags(own[0].text, own) for own in zip(*rows, strict=True)]

    @property
    def given(self) -> Given:
        """What the models are asked: the picture or the text; of a test item that was not edited, the words of the
        evaluation, if a request can hold them."""
        if self.picture is not None:
            return Picture.of(self.picture)
        words = self.flip.words if self.flip is not None and self._unedited else None
        return words if self.tags and words is not None and are_words(words) else self.query.text

    @property
    def _unedited(self) -> bool:
        """The text is that of the test item; forms send line breaks as CR LF."""
        return self.flip is not None and self.flip.text.replace("\r\n", "\n") == self.query.text.replace("\r\n", "\n")

    @property
    def most_picture(self) -> int:
        """MiB of a picture."""
        return MOST_PICTURE_BYTES >> 20

    @property
    def read(self) -> tuple[int, int] | None:
        """Tokens of the text for the first model, and how many it reads."""
        first = next((lane for lane in self.lanes if lane.prediction and lane.limit), None)
        assert first is None or first.prediction is not None  # noqa: S101
        return (first.prediction.tokens or 0, first.limit or 0) if first and first.prediction else None

    @property
    def full(self) -> bool:
        """No model can be added."""
        return len(self.query.model) >= MOST_SUBJECTS

    @property
    def stream(self) -> str:
        """The address of the events of a language model's answer; empty without a question. A test item that is a
        conversation is named, so that models read its turns and tools as in the evaluation."""
        ready = self.writes and self.lanes and self.query.text and not self.errors
        plain = replace(self.query, base="", arm="", kind="")
        if self.flip and self.flip.chat and self._unedited:
            plain = replace(plain, text="", chat="")
        else:
            plain = replace(plain, study="", item="")
        return plain.address("/api/v1/playground/events") if ready else ""

    def next_flip(self) -> str:
        """The address of the next item that flips."""
        assert self.flip is not None  # noqa: S101 the template asks
        return replace(self.query, text="", item=str(self.flip.next)).address()

    @property
    def has_base(self) -> bool:
        """The base model is shown."""
        return BASE in self.query.model


def of_query(session: Session, files: Files, query: PlaygroundQuery) -> PlaygroundPage:
    """The page without answers. Errors of the query are shown on it."""
    try:
        subjects = query.subjects
        answerers = inference.side_by_side(session, subjects) if subjects else []
        _seed = query.sampling_seed
    except VeznaError as error:
        return PlaygroundPage(query, offers=_offers(session, query, None), errors=error.at("model"))
    first = answerers[0] if answerers else None
    flip = _flip(session, files, query)
    if flip is not None and not query.text:
        query = replace(query, text=flip.text)
    model = base_models.by_id(session, first.run.base_model_id) if first else None
    tokens = first.run.spec.training.max_new_tokens if first else None
    return PlaygroundPage(
        query,
        lanes=lanes_of(query, subjects, answerers),
        offers=_offers(session, query, first),
        writes=bool(first and first.writes),
        tags=bool(first and TASKS[first.task].output == "tags"),
        images=bool(first and first.task in PICTURES),
        picture=_picture(session, files, first, flip),
        chats=bool(first and first.task in DECODERS and model and model.facts and model.facts.chat_template),
        new_tokens=tokens,
        flip=flip,
        tokens_choices=[("", _("%(n)s, as evaluated", n=tokens)), *((str(n), str(n)) for n in TOKENS)],
    )


def _picture(session: Session, files: Files, first: Answerer | None, flip: FlipPlace | None) -> bytes | None:
    """The image of a test item; None if there is none, or no longer."""
    if first is None or first.task not in PICTURES or flip is None:
        return None
    dataset = datasets.by_id(session, first.run.dataset_id)
    try:
        return image_of(files, dataset, flip.name) if dataset else None
    except VeznaError:
        return None


def _offers(session: Session, query: PlaygroundQuery, first: Answerer | None) -> list[Choice]:
    """Runs that can answer beside the first one; without one, the runs of the base model, or all."""
    model = base_models.by_name(session, query.base) if query.base else None
    wanted = [first.beside] if first else [ANSWERING - LANGUAGE, LANGUAGE]
    base_id = first.run.base_model_id if first else model.id if model else None
    offered = [run for tasks in wanted for run in runs.that_answer(session, tasks, base_id, limit=MOST_OFFERED)]
    return [
        (str(run.id), _("%(run)s: %(arm)s, seed %(seed)s, %(model)s", run=run.id, arm=run.arm, seed=run.seed,
                        model=run.spec.base_model))
        for run in offered
        if str(run.id) not in query.model
    ]  # fmt: skip


def _flip(session: Session, files: Files, query: PlaygroundQuery) -> FlipPlace | None:
    """The test item that the query names; None if there is no such item any more."""
    if query.flip is None:
        return None
    study_id, kind, position = query.flip
    try:
        comparison = study_service.comparison(session, study_id)
        flips = Flips.of(comparison, None)
        if query.arm not in flips.arms:
            return None
        page = flip_service.browse(session, files, flips, Slice(kind, query.arm), after=position - 1, limit=2)
    except (NotFound, VeznaError):
        return None
    if not page.items or page.items[0].position != position:
        return None
    item, following = page.items[0], page.items[1:]
    after = following[0].position if following else None
    words = None if page.words[0] is None else list(page.words[0])
    study = (study_id, comparison.spec.name, position, page.total)
    chat = asked_items.asked(session, files, study_id, position)
    text = chat.text if chat else item.text
    return FlipPlace(*study, item.label, text, item.target, after, words, item.item, chat is not None)
