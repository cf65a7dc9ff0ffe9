"""The HTTP status of an error."""

import pytest

from app.domain.errors import Conflict, Invalid, OverQuota, Unavailable, VeznaError
from app.domain.messages import Message
from app.web.http.errors import status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid.field("url", Message("It is no address")), 422),
        (Conflict(Message("Another one is running.")), 409),
        (OverQuota(Message("The quota has no room.")), 409),
        (Unavailable(Message("The files store does not answer.")), 503),
    ],
)
def test_a_form_that_is_shown_again_has_the_status_of_its_error(error: VeznaError, status: int) -> None:
    assert status_of(error) == status
