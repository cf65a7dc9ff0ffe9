"""What a reader asks of a model, what the inference process answers, and the limits of both.

A request names one or several subjects (a run's model, or the base model of a run) and is answered by events, in order:

    loading      a subject's model is being loaded, with the bytes that this is predicted to take
    loaded       every subject is ready
    form         of `compare`, before a subject continues a conversation with tools, or one whose prompt has opened the
                 reasoning (`reasons`): `mark` is what its chat template writes before calls of tools, null if unknown
    seen         of `compare`: the picture as the first subject reads it, and its size as datasets would store it
    working      a model is still being loaded or computes; sent every few seconds
    answers      class probabilities, or generated texts, of some inputs of a subject
    token        one generated token of a subject
    finished     a subject has written its last token
    end          nothing follows
    failed       nothing follows: why, and what to do
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from pydantic_core import from_json, to_json

from app.domain.data.turns import Message, message, others
from app.domain.errors import FieldError, Invalid, NotFound, Unavailable, VeznaError
from app.domain.messages import Message as Sentence
from app.domain.messages import _
from app.domain.models.hub_access import HubAccess
from app.domain.runs.job import TrainJob
from app.domain.validation import invalid_field

MOST_INPUTS = 256
MOST_CHARACTERS = 100_000
"""Characters of an input."""
MOST_SUBJECTS = 6
"""Models side by side."""
MOST_TOOLS = 128
"""Tools of a conversation, and calls of a turn."""
MOST_NEW_TOKENS = 4096
MOST_GENERATED = 32_768
"""Tokens that a request may generate: its inputs × `max_new_tokens`."""
TURN_TOKENS = 4096
"""Tokens that are generated before other requests get their turn; one batch of the run's evaluation if that is more."""
MOST_IMPORTANCE_WORDS = 200
"""Words whose importance is computed; each takes a forward pass."""
MOST_PICTURES, MOST_PICTURE_BYTES = 16, 5 << 20
"""Pictures of a request, and bytes of each: they are in the memory of the broker until they are answered."""
MOST_WORDS = 10_000
"""Words of an input that is tagged: a list of words, or a text that is split."""
MOST_REQUEST_WORDS = 200_000
"""Words of all inputs of a request."""

Kind = Literal["predict", "compare"]
Finish = Literal["stop", "length", "cancelled"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def can_be_sent(value: object) -> bool:
    """Whether a request can hold a value as JSON: without half characters, and not nested too deeply."""
    around = 32
    try:
        from_json(b"[" * around + to_json(value) + b"]" * around)
    except (ValueError, RecursionError):
        return False
    return True


class CalledFunction(_Part):
    """What a call of a tool names."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    arguments: dict[str, JsonValue] = Field(default_factory=dict)


class ToolCall(_Part):
    """A call of a tool, as chat templates take it: the arguments are an object."""

    id: Annotated[str, StringConstraints(max_length=200)] | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(_Part):
    """A turn of a conversation."""

    role: Annotated[str, StringConstraints(min_length=1, max_length=40)]
    content: Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)]
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=MOST_TOOLS)] | None = None
    """Only turns of the assistant have calls and reasoning."""
    reasoning_content: Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)] | None = None
    tool_call_id: Annotated[str, StringConstraints(max_length=200)] | None = None
    name: Annotated[str, StringConstraints(max_length=200)] | None = None

    @classmethod
    def of(cls, turn: Message) -> Self:
        more = {name: value for name, value in others(turn).items() if name != "train"}
        return cls(role=turn["role"], content=turn["content"], **more)

    @property
    def turn(self) -> Message:
        """As datasets have it."""
        return message(self.role, self.content, self.model_dump(exclude={"role", "content"}, exclude_none=True))


Text = Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)]
Conversation = Annotated[list[ChatMessage], Field(min_length=1, max_length=100)]
Words = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=1000)]], Field(min_length=1, max_length=MOST_WORDS)
]
Input = Text | Conversation | Words
"""A text to classify or to tag or a prompt to continue, a conversation for the tokenizer's chat template, or the words
to tag."""


class Picture(_Part):
    image: Annotated[str, StringConstraints(min_length=1, max_length=4 * -(-MOST_PICTURE_BYTES // 3))]
    """The bytes of a file of at most 5 MiB in base64: PNG, JPEG, GIF, BMP, WebP, TIFF or PPM, as in datasets."""

    @field_validator("image")
    @classmethod
    def _is_base64(cls, image: str) -> str:
        try:
            b64decode(image, validate=True)
        except ValueError:
            raise invalid_field("image", _("This is not base64"), _("Send the file's bytes in base64")) from None
        return image

    @classmethod
    def of(cls, data: bytes) -> Self:
        return cls(image=b64encode(data).decode())

    @property
    def data(self) -> bytes:
        return b64decode(self.image)


Given = Input | Picture


_WORDS: TypeAdapter[Words] = TypeAdapter(Words)


def are_words(given: Sequence[str]) -> bool:
    """Whether a request can hold a list of words."""
    try:
        _WORDS.validate_python(list(given))
    except ValidationError:
        return False
    return True


class Decoding(_Part):
    """How a text is generated. Without a temperature the most probable token is chosen each time."""

    max_new_tokens: int | None = Field(default=None, ge=1, le=MOST_NEW_TOKENS)
    """None: as the run's evaluation generates."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """0 is greedy; otherwise tokens are sampled."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Sample from the most probable tokens that have this much probability together."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    stop: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field(
        default_factory=list, max_length=4
    )
    """Texts that end the answer, which does not include them."""


class Subject(_Part):
    """A model that answers."""

    run_id: int
    base: bool = False
    """The base model of the run: zero-shot, or with a head that has not been trained."""


class InferenceRequest(_Part):
    """A request to the inference process."""

    id: str
    kind: Kind
    """`predict`: one subject, many inputs, answered in batches. `compare`: several subjects, one input."""
    subjects: list[Subject] = Field(min_length=1, max_length=MOST_SUBJECTS)
    inputs: list[Given] = Field(min_length=1, max_length=MOST_INPUTS)
    tools: Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)] | None = None
    """The tools that the assistant of conversations may call, as JSON: a list of {type, function}."""
    decoding: Decoding = Decoding()
    truncate: bool = False
    """Truncate an input that is too long, as the run's evaluation does; otherwise it is refused."""
    whole_context: bool = False
    """Accept as many tokens as the model has positions, and not only those that the run was evaluated with."""
    importance: bool = False
    """For a classifier and `compare`: also how much each word matters."""
    top: int = Field(default=3, ge=0, le=20)
    """Alternatives that are reported for each token."""


class ModelJob(_Part):
    """A subject for the inference process, which reads neither settings nor the database."""

    model_config = ConfigDict(hide_input_in_errors=True)

    key: str
    """The same for the same model: `run 12/1`."""
    job: TrainJob
    """Its location is a directory or a hub id on this worker."""
    weights: str = ""
    """A local directory with what the run saved; empty for a base model."""
    whole: bool = False
    """The run saved the whole model."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    base_bytes: int
    """Bytes of the base model, or of the run's whole model."""
    own_bytes: int = 0
    """Bytes to load beside a base model that is loaded already."""
    hub: HubAccess | None = Field(default=None, repr=False)
    """Opens the base model, if that needs the token of the run's owner."""


class WorkRequest(_Part):
    """A request as the inference process gets it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    request: InferenceRequest
    jobs: list[ModelJob]
    """Jobs of the subjects, in their order."""
    reserved_bytes: int = 0
    """Memory that runs on this machine are predicted to need beyond what they use."""


class TaggedWord(_Part):
    """A word of an input that was tagged, at its characters from `start` to before `end`."""

    text: str
    start: int
    end: int
    tag: str | None = None
    """The most probable one; none of a word that the model did not read."""
    probability: float | None = None


class EntitySpan(_Part):
    """An entity that tags mark, at the characters from `start` to before `end`."""

    type: str
    text: str
    start: int
    end: int


class Prediction(_Part):
    """The answer to one input: a label, a text, or tags of words."""

    index: int
    """Place of the input."""
    label: str | None = None
    """The most probable one."""
    probabilities: dict[str, float] | None = None
    text: str | None = None
    tokens: int | None = None
    """Tokens of the input; of a generated text, its own."""
    words: list[TaggedWord] | None = None
    """For a list of words, characters count in the words joined by spaces."""
    entities: list[EntitySpan] | None = None
    importance: list[tuple[str, float | None]] | None = None
    """Each word, and by how much the label's probability falls when it is masked; None where that was not computed."""


def failed(error: VeznaError) -> dict[str, object]:
    """The event for an error, which `raised` turns back."""
    kinds: Mapping[type[VeznaError], str] = {Invalid: "invalid", NotFound: "not-found"}
    fields = [{"path": f.path, "message": f.message, "remedy": f.remedy} for f in error.fields]
    return {"type": "failed", "kind": kinds.get(type(error), "unavailable"), "message": error.message, "fields": fields}


def raised(event: Mapping[str, object]) -> VeznaError:
    sentence = Sentence(str(event["message"]))
    stated = event.get("fields")
    fields: Sequence[Mapping[str, str]] = stated if isinstance(stated, list) else []
    errors = [FieldError(f["path"], Sentence(f["message"]), Sentence(f["remedy"])) for f in fields]
    kinds: Mapping[object, type[VeznaError]] = {"invalid": Invalid, "not-found": NotFound}
    return kinds.get(event.get("kind"), Unavailable)(sentence, errors)


def too_long(index: int, tokens: int, limit: int, why: Sentence) -> FieldError:
    """The error for an input that a model does not read as a whole."""
    what = _("This input has %(tokens)s tokens, and %(why)s", tokens=tokens, why=why)
    remedy = _("Shorten it to %(limit)s tokens, or have it truncated", limit=limit)
    return FieldError(f"inputs.{index}", what, remedy)


def too_large(needed: int, free: int, reserved: int) -> Unavailable:
    """The error for models that do not fit into the worker's memory; sizes in bytes."""
    values = {"needed": f"{needed / 2**20:,.0f}", "free": f"{free / 2**20:,.0f}"}
    if not reserved:
        return Unavailable(
            _(
                "Loading the models is predicted to take %(needed)s MiB, and the worker has %(free)s MiB free. Choose "
                "fewer or smaller models, or a worker with more memory.",
                **values,
            )
        )
    return Unavailable(
        _(
            "Loading the models is predicted to take %(needed)s MiB, and the worker has %(free)s MiB free beside its "
            "runs, which are predicted to need another %(reserved)s MiB. Wait until they have ended, or choose fewer "
            "or smaller models.",
            reserved=f"{reserved / 2**20:,.0f}",
            **values,
        )
    )
