"""Predictions of a run's model over REST, in batches."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from app.domain.errors import Invalid
from app.domain.tasks import Task
from app.features.serving.pages.inference import answered
from app.features.serving.rules import (
    MOST_CHARACTERS,
    MOST_INPUTS,
    Decoding,
    EntitySpan,
    Given,
    Prediction,
    Subject,
    TaggedWord,
)
from app.features.serving.services import inference
from app.features.serving.services.inference import Answerer
from app.web.api.examples import PREDICT
from app.web.http.dependencies import Db, Exchange, RowId
from app.web.http.errors import problems

router = APIRouter(prefix="/runs", tags=["runs"])

MOST_BODY_BYTES = 8 << 20
"""80 texts of the maximum length in ASCII."""


class PredictRequest(BaseModel):
    """Inputs for a run's model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: list[Given] = Field(min_length=1, max_length=MOST_INPUTS)
    """Texts to classify or to tag or prompts to continue; for a decoder also conversations, by the tokenizer's chat
    template; for a model that tags words also lists of words; for a classifier of images at most 16 images of 5 MiB."""
    decoding: Decoding = Decoding()
    """How texts are generated; a classifier ignores it. By default as the run's evaluation does."""
    truncate: bool = False
    """Truncate an input that is too long, as the run's evaluation does; otherwise it is refused (422)."""


class PredictionOut(BaseModel):
    """The answer to one input."""

    label: str | None = None
    """Of a classifier: the most probable label."""
    probabilities: dict[str, float] | None = None
    """Of a classifier: the probability of each label."""
    text: str | None = None
    """Of a language model: the generated text."""
    words: list[TaggedWord] | None = Field(default=None, max_length=MOST_CHARACTERS)
    """Of a model that tags words: the words of the input, with their tags and places."""
    entities: list[EntitySpan] | None = Field(default=None, max_length=MOST_CHARACTERS)
    """Of a model that tags words: the entities that the tags mark."""
    tokens: int | None = None
    """Tokens of the text that was classified or tagged, or generated."""


class PredictionsOut(BaseModel):
    """The answers, in the order of the inputs."""

    run_id: int
    task: Task
    predictions: list[PredictionOut] = Field(max_length=MOST_INPUTS)


def answerer(db: Db, run_id: RowId) -> Answerer:
    """A run whose model can answer."""
    with db.reading() as session:
        return inference.answerer(session, run_id)


@router.post(
    "/{run_id}/predict",
    operation_id="predict",
    response_model_exclude_none=True,
    responses=problems(404, 422, 503),
    max_body_size=MOST_BODY_BYTES,
)
async def predict(
    exchange: Exchange,
    run: Annotated[Answerer, Depends(answerer)],
    request: Request,
    body: Annotated[PredictRequest, Body(openapi_examples=PREDICT)],
) -> PredictionsOut:
    """Predict with a run's model, which a worker loads if it is not loaded yet: class probabilities, tags of words, or
    generated texts. 422 for a run without a model, for inputs that are empty or longer than the run reads, and for more
    than 32,768 tokens to generate (inputs × `max_new_tokens`)."""
    inference.check_inputs(run, body.inputs, body.decoding)
    subject = Subject(run_id=run.run.id)
    options: dict[str, Any] = {"decoding": body.decoding, "truncate": body.truncate}
    whole = inference.request("predict", [subject], body.inputs, **options)
    predictions: dict[int, PredictionOut] = {}
    for first, part in inference.turns(run, whole):
        try:
            async for event in answered(request, exchange, part):
                for one in event.get("predictions", ()):
                    prediction = Prediction.model_validate(one)
                    shown = prediction.model_dump(exclude={"index", "importance"})
                    predictions[first + prediction.index] = PredictionOut.model_validate(shown)
        except Invalid as error:
            raise inference.at_place(error, first) from error
    ordered = [predictions[n] for n in range(len(body.inputs))]
    return PredictionsOut(run_id=run.run.id, task=run.task, predictions=ordered)
