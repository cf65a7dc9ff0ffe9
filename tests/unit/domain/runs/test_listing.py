"""The list of runs: its filter language, and digits of stored numbers."""

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.runs.listing.digits import plain, shortest
from app.domain.runs.listing.fields import FIELDS, NAMES
from app.domain.runs.listing.filter_tokens import LONGEST, FilterError
from app.domain.runs.listing.filters import STATES, Compare, Condition, Every, Is, Not, OneOf, Some, parse

texts = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), max_size=12)
times = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)).map(
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)
VALUES = {
    "fraction": st.floats(-1, 1),
    "bytes": st.integers(0, 2**50),
    "seconds": st.floats(0, 1e9),
    "count": st.integers(0, 2**62),
    "number": st.floats(-1e12, 1e12),
    "text": texts,
    "time": times,
}
ORDERED = ("=", "!=", "<", "<=", ">", ">=")


@st.composite
def comparisons(draw: st.DrawFn) -> Condition:
    """A comparison of any field."""
    field = draw(st.sampled_from(list(FIELDS.values())))
    value = VALUES[field.kind]
    if draw(st.booleans()):
        return OneOf(field.name, tuple(draw(st.lists(value, min_size=1, max_size=4))))
    return Compare(
        field.name, draw(st.sampled_from(("=", "!=", "~") if field.kind == "text" else ORDERED)), draw(value)
    )


def joined(inside: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    """Conditions made of conditions."""
    parts = st.lists(inside, min_size=2, max_size=3).map(tuple)
    return inside.map(Not) | parts.map(Every) | parts.map(Some)


conditions = st.recursive(st.sampled_from(STATES).map(Is) | comparisons(), joined, max_leaves=8)
PIECES = st.sampled_from([
    *NAMES, *STATES, "and", "or", "not", "in", "(", ")", ",", "=", "<", ">=", "~", "!", "90 %", "2 GiB", '"', "'a'",
    "3", "\\",
])  # fmt: skip


@given(conditions)
def test_what_was_read_can_be_written_and_read_again(condition: Condition) -> None:
    text = str(condition)
    if len(text) <= LONGEST:
        assert parse(text) == condition


@given(st.text(max_size=200) | st.lists(PIECES, max_size=20).map(" ".join))
def test_whatever_is_typed_is_read_or_refused_with_its_place(text: str) -> None:
    try:
        parse(text)
    except FilterError as error:
        assert 1 <= error.column <= len(text) + 1
        assert error.what and error.remedy
        assert error.fields[0].column == error.column


def test_and_binds_closer_than_or_and_not_closest() -> None:
    assert parse("failed or not running and seed = 1") == Some(
        (Is("failed"), Every((Not(Is("running")), Compare("seed", "=", 1))))
    )
    assert parse("(failed or running) and seed = 1") == Every(
        (Some((Is("failed"), Is("running"))), Compare("seed", "=", 1))
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("peak < 2 GiB", 2 * 2**30),
        ("peak < 1.5MB", 1_500_000),
        ("peak > 0", 0),
        ("train < 5 min", 300.0),
        ("train < 300", 300),
        ("accuracy > 90 %", 0.9),
        ("accuracy > .9", 0.9),
        ("trainable < 1.5 M", 1_500_000),
        ("learning_rate = 2e-5", 2e-5),
        ("seed = 4294967295", 4294967295),
        ("started_at > 2026-11-12", datetime(2026, 11, 12, tzinfo=UTC)),
        ("started_at > 2026-11-12T14:00+02:00", datetime(2026, 11, 12, 12, tzinfo=UTC)),
        ("method = head-only", "head-only"),
        (r'note ~ "a \"b\" \\"', 'a "b" \\'),
        ("note ~ 'it is'", "it is"),
    ],
)
def test_values_are_kept_in_base_units(text: str, value: object) -> None:
    found = parse(text)
    assert isinstance(found, Compare)
    assert found.value == value


def test_fields_and_states_have_other_names_and_any_case() -> None:
    assert parse("LR = 1 AND Failed") == Every((Compare("learning_rate", "=", 1), Is("failed")))
    assert parse("seed NOT IN (1, 2)") == Not(OneOf("seed", (1, 2)))
    assert parse(" ") is None


@pytest.mark.parametrize(
    ("text", "column", "what", "remedy"),
    [
        ("acuracy > 0.9", 1, "`acuracy` is not a field", "Did you mean `accuracy`?"),
        ("seed = 1 and fialed", 14, "`fialed` is not a field", "Did you mean `failed`?"),
        ("qqqq = 1", 1, "`qqqq` is not a field", "Choose from: id, study"),
        ("accuracy >", 11, "the end is unexpected here", "Write a number such as 0.9 or 90 %"),
        ("accuracy > 90", 12, "`accuracy` is between 0 and 1", "Write 90 % or 0.9"),
        ("peak < 150", 11, "`peak` needs a unit", "Write, for example, 150 MiB"),
        ("train < 5 GiB", 11, "`GiB` is not a unit of `train`", "Choose from: ms, s, min, h, d"),
        ("seed = 1 s", 10, "`s` is not a unit of `seed`", "Choose from: k, M, G, B"),
        ("method > 3", 8, "`method` is a string, which has no order", "Use one of = != ~"),
        ("seed ~ 3", 6, "`seed` is not a string", "Use one of = != <"),
        ("failed & running", 8, "`&` is not valid here", "Write and"),
        ('arm = "x', 7, "A quoted string is not closed", 'Close it with "'),
        ('arm = "a\0"', 9, "the character U+0000 is not valid here", "Remove it"),
        ("seed = 1 2", 10, "`2` is unexpected here", "Write `and`, `or`, or nothing more"),
        ("seed in (1 2)", 12, "`2` is unexpected here", "Write `,` or `)`"),
        ("(failed", 8, "the end is unexpected here", "Write `)`, `and` or `or`"),
        ("seed = 1e999", 8, "`1e999` is too large", "Write a number such as 8"),
        (
            "started_at > 2026-13-45",
            14,
            "`2026-13-45` is unexpected here",
            "Write a date or a time, such as 2026-11-12",
        ),
        ("not " * 40 + "failed", 125, "A filter is at most 30 levels deep", "Simplify it"),
        ("failed or " * 101, 1001, "A filter has at most 1000 characters", "Shorten it"),
    ],
)
def test_a_mistake_has_its_place_its_reason_and_a_way_out(text: str, column: int, what: str, remedy: str) -> None:
    with pytest.raises(FilterError) as found:
        parse(text)
    assert found.value.what.startswith(what)
    assert found.value.remedy.startswith(remedy)
    assert found.value.column == column


singles = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


@given(st.lists(singles, max_size=30))
def test_what_is_written_reads_back_as_the_same_number(values: list[float]) -> None:
    x = np.array(values, np.float32)
    assert (shortest(x).astype(np.float32) == x).all()


@given(st.decimals(min_value=-1000, max_value=1000, places=3))
def test_a_decimal_of_six_digits_comes_back_as_it_was_said(said: object) -> None:
    number = float(str(said))
    assert plain(np.array([number], np.float32)) == [number]


@given(st.integers(1, 2**24), st.integers(-12, 6))
def test_no_decimal_has_more_digits_than_numpy_writes(digits: int, power: int) -> None:
    x = np.array([digits * 10.0**power], np.float32)
    written, theirs = (Decimal(repr(value)).normalize().as_tuple().digits for value in (plain(x)[0], float(str(x[0]))))
    assert len(written) <= max(len(theirs), 6)


def test_what_is_not_finite_and_what_is_no_single_precision_stays() -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, 1e-30], np.float32)
    found = plain(odd)
    assert np.isnan(found[0]) and found[1:4] == [np.inf, -np.inf, 0.0] and np.float32(found[4]) == odd[4]
    assert plain(np.array([1, 2**40])) == [1, 2**40]
    assert plain(np.array([0.1 + 0.2])) == [0.1 + 0.2]
    assert plain(np.array([], np.float32)) == []
