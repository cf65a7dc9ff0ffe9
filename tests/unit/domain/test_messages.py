"""Messages and their translation; the first line of an error."""

import copy
import json
import pickle

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from app.domain.errors import FieldError, Invalid, first_line
from app.domain.messages import Message
from app.domain.validation import invalid_field

BLOCK = Message("%(model)s has no block %(block)s", model="BERT", block=7)
ESPERANTO = {
    "%(model)s has no block %(block)s": "Bloko %(block)s mankas al %(model)s",
    "%(sentence)s.": "%(sentence)s!",
    "use %(other)s": "uzu %(other)s",
    "the other": "la alian",
}


def translated(message: Message) -> str:
    return message.translated(lambda template: ESPERANTO.get(template, template))


def test_a_message_is_its_english_text() -> None:
    assert BLOCK == "BERT has no block 7"
    assert f"{BLOCK}" == json.loads(json.dumps(BLOCK)) == str(BLOCK)
    assert Message("100% of it") == "100% of it"
    assert Message("%(share)s%% of it", share=50) == "50% of it"


def test_a_translation_takes_the_values_along() -> None:
    assert translated(BLOCK) == "Bloko 7 mankas al BERT"
    assert translated(Message("nothing that is known")) == "nothing that is known"


def test_a_value_that_is_a_message_is_translated_too() -> None:
    assert translated(Message("use %(other)s", other=Message("the other"))) == "uzu la alian"
    assert translated(Message.joined([BLOCK, "LoRA"], "; ")) == "Bloko 7 mankas al BERT; LoRA"


@pytest.mark.parametrize("again", [copy.copy(BLOCK), copy.deepcopy(BLOCK), pickle.loads(pickle.dumps(BLOCK))])
def test_a_copy_can_be_translated_as_well(again: Message) -> None:
    assert again == BLOCK
    assert translated(again) == translated(BLOCK)


def test_pydantic_hands_on_what_a_validator_says() -> None:
    class Spec(BaseModel):
        block: int

        @model_validator(mode="after")
        def _there(self) -> "Spec":
            raise invalid_field("block", BLOCK, Message("use %(other)s", other="LoRA"))

    with pytest.raises(ValidationError) as failed:
        Spec(block=7)
    [error] = failed.value.errors()
    assert error["msg"] == BLOCK
    assert translated(error["ctx"]["message"]) == translated(BLOCK)
    assert translated(error["ctx"]["remedy"]) == "uzu LoRA"


def test_an_error_about_fields_says_what_is_wrong_and_what_to_do() -> None:
    error = Invalid.of(
        [FieldError("block", BLOCK, Message("use %(other)s", other="LoRA")), FieldError("r", "too large.")]
    )
    assert str(error) == "BERT has no block 7. use LoRA. too large."
    assert isinstance(error.message, Message)
    assert translated(error.message) == "Bloko 7 mankas al BERT! uzu LoRA! too large."


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("the file is broken.\nTry another."), "the file is broken"),
        (OSError("\n  cannot open x:\n  no such file"), "cannot open x"),
        (KeyError("a.b"), "'a.b'"),
        (RuntimeError("disk full \nmore"), "disk full"),
        (RuntimeError(), "RuntimeError"),
        (ValueError(" \n"), "ValueError"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line
