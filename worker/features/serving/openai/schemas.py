"""Requests of OpenAI's API as far as they are supported. Any other field is an error, but for those that change nothing
of the answer (`user`, `metadata`, `store`).

https://platform.openai.com/docs/api-reference
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.domain.data.turns import ASSISTANT
from app.features.serving.rules import MOST_CHARACTERS, MOST_NEW_TOKENS, MOST_TOOLS, ChatMessage, Decoding, can_be_sent
from worker.ingest.rows.turns import TOOL, calls_of, tools_of

Stop = Annotated[str, Field(min_length=1, max_length=200)]
DEFAULT_NEW_TOKENS = {"chat": 256, "completion": 16}
"""Where the request does not say; 16 is the default of OpenAI's completions."""


class BadRequest(Exception):
    """A request that cannot be answered, in OpenAI's words."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(max_length=300)]
    max_tokens: Annotated[int, Field(ge=1, le=MOST_NEW_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """OpenAI's default is 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[Stop], Field(max_length=4)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    user: Any = None
    metadata: Any = None
    store: Any = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_several(cls, stop: object) -> object:
        return [stop] if isinstance(stop, str) else stop

    def decoding(self, new_tokens: int, random_seed: int) -> Decoding:
        """How the answer is generated; without a seed, each answer has another one."""
        return Decoding(
            max_new_tokens=new_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p or 1.0,
            seed=abs(self.seed) % 2**63 if self.seed is not None else random_seed,
            stop=self.stop or [],
        )


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: Annotated[str, Field(max_length=MOST_CHARACTERS)]


class Turn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Annotated[str, Field(min_length=1, max_length=40)]
    content: Annotated[str, Field(max_length=MOST_CHARACTERS)] | Annotated[list[Part], Field(max_length=100)] | None = (
        None
    )
    name: Annotated[str, Field(max_length=200)] | None = None
    tool_calls: Annotated[list[dict[str, Any]], Field(max_length=MOST_TOOLS)] | None = None
    tool_call_id: Annotated[str, Field(max_length=200)] | None = None
    reasoning_content: Annotated[str, Field(max_length=MOST_CHARACTERS)] | None = None
    refusal: None = None
    function_call: None = None
    audio: None = None
    annotations: None = None
    """As answers have it, so that they can be sent back."""

    @model_validator(mode="after")
    def _is_a_turn(self) -> Self:
        if len(self.text) > MOST_CHARACTERS:
            raise ValueError(f"The parts of a message have at most {MOST_CHARACTERS} characters together")
        if self.content is None and not self.tool_calls and not self.reasoning_content:
            raise ValueError("A message needs content, or tool_calls")
        if (self.tool_calls or self.reasoning_content) and self.role != ASSISTANT:
            raise ValueError("Only a message of the assistant has tool_calls or reasoning_content")
        if self.tool_call_id and self.role != TOOL:
            raise ValueError("Only a message with the role tool has a tool_call_id")
        try:
            called = self.message().tool_calls if self.tool_calls else []
            read = called is not None and all(can_be_sent(call.function.arguments) for call in called)
        except ValidationError:  # an id that is no text, or a name of many characters
            read = False
        if not read:
            raise ValueError("Write each of tool_calls as {type: function, function: {name, arguments: a JSON object}}")
        return self

    @property
    def text(self) -> str:
        """The content; of several parts, one after the other."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())

    def message(self) -> ChatMessage:
        """For the model's chat template."""
        more: dict[str, Any] = {"tool_calls": calls_of(self.tool_calls) if self.tool_calls else None}
        more |= {"reasoning_content": self.reasoning_content or None, "tool_call_id": self.tool_call_id}
        return ChatMessage(role=self.role, content=self.text, name=self.name if self.role == TOOL else None, **more)


class ChatRequest(_Request):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=100)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_NEW_TOKENS)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Any = None
    parallel_tool_calls: Literal[True] | None = None

    @field_validator("tools")
    @classmethod
    def _are_functions(cls, tools: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        written = tools_of(tools) if can_be_sent(tools) else None
        if written is None or len(written) > MOST_CHARACTERS:
            raise ValueError(
                f"Write each tool as {{type: function, function: {{name, …}}}}, {MOST_CHARACTERS} characters together"
            )
        return tools

    @field_validator("tool_choice")
    @classmethod
    def _is_free(cls, choice: object) -> object:
        if choice not in (None, "auto", "none"):
            raise ValueError("A model cannot be made to call a tool here. Send auto or none")
        return choice

    @property
    def offered(self) -> str | None:
        """The tools that the model may call, as JSON."""
        return None if self.tool_choice == "none" else tools_of(self.tools) or None

    @property
    def names(self) -> list[str]:
        return [tool["function"]["name"] for tool in json.loads(self.offered or "[]")]

    @property
    def new_tokens(self) -> int:
        return self.max_completion_tokens or self.max_tokens or DEFAULT_NEW_TOKENS["chat"]


class CompletionRequest(_Request):
    """POST /v1/completions."""

    prompt: Annotated[str, Field(max_length=MOST_CHARACTERS)] | Annotated[list[str], Field(min_length=1, max_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None

    @property
    def text(self) -> str:
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]

    @property
    def new_tokens(self) -> int:
        return self.max_tokens or DEFAULT_NEW_TOKENS["completion"]
