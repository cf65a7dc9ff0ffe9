"""Users as they are entered: e-mail address, name, role, and the rules for passwords."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from app.domain.accounts.policy import Role
from app.domain.messages import _
from app.domain.validation import Line, invalid_field

MIN_PASSWORD_LENGTH = 12
"""NIST SP 800-63B-4 (section 3.1.1.2) requires 8 characters beside a second factor and 15 without one. 12 are enough
with the estimate below and a limit on the rate of logins. There is no other rule of composition: rules on digits and
symbols make passwords predictable (the same section forbids them)."""
MAX_PASSWORD_LENGTH = 1024
"""Argon2 takes any length; this bounds the work."""
MIN_PASSWORD_GUESSES = 1e8
"""Guesses by which a password may be found at the earliest, by zxcvbn's estimate (Wheeler 2016, USENIX Security):
its own bound between "somewhat guessable" and "safely unguessable" against a stolen slow hash."""
MAX_EMAIL_LENGTH = 254
"""RFC 5321, as corrected by erratum 1690."""
MAX_NAME_LENGTH = 120
ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


def _address(text: str) -> str:
    if not ADDRESS.fullmatch(text) or not text.isprintable() or len(text) > MAX_EMAIL_LENGTH:
        raise invalid_field("", _("This is not an e-mail address"), _("Write it as name@example.org"))
    return text


Email = Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True), AfterValidator(_address)]
"""In lower case, so that an address belongs to a single account however it is typed."""


class NewUser(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"example": {"email": "ada@example.org", "role": "member"}}
    )

    email: Email
    name: Annotated[Line, Field(max_length=MAX_NAME_LENGTH)] = ""
    """As others see it; empty shows the e-mail address."""
    role: Role = Role.MEMBER
