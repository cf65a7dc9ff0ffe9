"""Accounts and messages: what roles permit, how a client is recognised, and what is translated."""

import copy
import json
import pickle

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from app.domain.accounts import credentials
from app.domain.accounts.clients import network_of
from app.domain.accounts.policy import SCOPES, SINGLE_USER, Identity, Role, Scope, of_token
from app.domain.accounts.users import NewUser
from app.domain.errors import FieldError, Invalid, first_line
from app.domain.messages import Message
from app.domain.validation import invalid_field


def identity(role: Role, *scopes: Scope, token: bool = True) -> Identity:
    return Identity(1, "ada@example.org", "", role, frozenset(scopes), token_id=1 if token else None)


def test_scopes_follow_the_role_and_a_refusal_names_what_is_missing() -> None:
    assert SCOPES[Role.VIEWER] < SCOPES[Role.MEMBER] < SCOPES[Role.ADMIN] == frozenset(Scope)
    assert of_token(Role.VIEWER, [Scope.READ, Scope.RUN]) == {Scope.READ}
    assert "lacks the scope run" in identity(Role.MEMBER, Scope.READ).refusal(Scope.RUN)
    assert "needs member" in identity(Role.VIEWER, Scope.READ).refusal(Scope.RUN)
    assert "needs admin" in identity(Role.MEMBER, token=False).refusal(Scope.ADMIN)
    assert all(SINGLE_USER.may(scope) for scope in Scope)
    assert SINGLE_USER.owner == "" != identity(Role.ADMIN).owner


@pytest.mark.parametrize("email", ["", "ada", "a b@example.org", "@example.org", "ada@", "a@b@c", f"{'a' * 250}@b.org"])
def test_what_is_not_an_email_address_is_refused(email: str) -> None:
    with pytest.raises(ValidationError, match="not an e-mail address"):
        NewUser(email=email)


def test_an_email_address_belongs_to_one_account_however_it_is_typed() -> None:
    assert NewUser(email=" Ada@Example.org ").email == "ada@example.org"


def test_a_token_is_found_by_secret_scanners_and_its_hint_keeps_the_rest_secret() -> None:
    token = credentials.new_token()
    assert token.startswith("vezna_") and credentials.is_token(token)
    assert credentials.hint(token) == token[:10]
    assert credentials.digest(token) != credentials.digest(credentials.new_token())
    assert not credentials.is_token(token[:-1]) and not credentials.is_token("vezna_" + "é" * 43)


@pytest.mark.parametrize(
    ("host", "network", "loopback"),
    [
        ("192.0.2.1", "192.0.2.1", False),
        ("192.0.2.1:4711", "192.0.2.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "::/64", True),
        ("::ffff:192.0.2.1", "192.0.2.1", False),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64", False),
        ("[2001:db8:0:1::9]:4711", "2001:db8:0:1::/64", False),
        ("fe80::1%eth0", "fe80::/64", False),
        ("unknown", "unknown", False),
        ("x" * 100, "x" * 64, False),
        ("", "", False),
    ],
)
def test_a_client_is_its_address_or_its_network(host: str, network: str, loopback: bool) -> None:
    assert network_of(host) == (network, loopback)


BLOCK = Message("%(model)s has no block %(block)s", model="BERT", block=7)
ESPERANTO = {
    "%(model)s has no block %(block)s": "Bloko %(block)s mankas al %(model)s",
    "%(sentence)s.": "%(sentence)s!",
    "use %(other)s": "uzu %(other)s",
    "the other": "la alian",
}


def translated(message: Message) -> str:
    return message.translated(lambda template: ESPERANTO.get(template, template))


def test_a_message_is_english_until_it_is_translated_with_its_values() -> None:
    assert BLOCK == "BERT has no block 7"
    assert f"{BLOCK}" == json.loads(json.dumps(BLOCK)) == str(BLOCK)
    assert Message("100% of it") == "100% of it"
    assert Message("%(share)s%% of it", share=50) == "50% of it"
    assert translated(BLOCK) == "Bloko 7 mankas al BERT"
    assert translated(Message("nothing that is known")) == "nothing that is known"
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
