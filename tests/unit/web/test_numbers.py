"""Numbers as people read them."""

from datetime import UTC, datetime

import pytest

from app.web import numbers
from app.web.numbers import GIB, MIB

SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.decimal(-8.64), "−8.6"),
        (numbers.decimal(-0.04, signed=True), "0.0"),
        (numbers.decimal(0.26, signed=True), "+0.3"),
        (numbers.count(22_715_141), "22,715,141"),
        (numbers.short_count(22_715_141), "22.7 M"),
        (numbers.percent(0.9012), "90.1 %"),
        (numbers.points(-0.086), "−8.6"),
        (numbers.plus_minus(0.0081), "± 0.8"),
        (numbers.plus_minus(float("inf")), "± ?"),
        (numbers.share(75_653, 22_715_141), "0.33 %"),
        (numbers.share(37, 100), "37 %"),
        (numbers.share(2_000, 1_034_512_384), "0.0002 %"),
        (numbers.share(0, 100), "0 %"),
        (numbers.share(1, 0), "–"),
        (numbers.memory(150 * MIB), "150 MiB"),
        (numbers.memory(2.31 * MIB), "2.3 MiB"),
        (numbers.memory(9.4 * GIB), "9.4 GiB"),
        (numbers.mib(150 * MIB, 1), "150.0"),
        (numbers.file_size(90_900_000), "86.7 MiB"),
        (numbers.file_size(310_000), "0.30 MiB"),
        (numbers.file_size(38_123), "37 KiB"),
        (numbers.file_size(120), "120 B"),
        (numbers.file_size(867 * MIB), "867 MiB"),
        (numbers.file_size(2.5 * GIB), "2.50 GiB"),
        (numbers.energy(840.4), "840 J"),
        (numbers.energy(12_500), "12.5 kJ"),
        (numbers.energy(4_680_000), "1.3 kWh"),
        (numbers.energy(None), "–"),
        (numbers.duration(0.2), "0.2 s"),
        (numbers.duration(9.96), "10 s"),
        (numbers.duration(134), "2 min 14 s"),
        (numbers.duration(120), "2 min"),
        (numbers.duration(59.7), "1 min"),
        (numbers.duration(3_900), "1 h 5 min"),
        (numbers.duration(180_000), "2 d 2 h"),
        (numbers.age(134), "2 min"),
        (numbers.rate(2e-5), "2e-5"),
        (numbers.rate(1.5e-4), "1.5e-4"),
        (numbers.rate(0.002), "2e-3"),
        (numbers.rate(0.01), "0.01"),
        (numbers.rate(3.0), "3"),
        (numbers.rate(0), "0"),
    ],
)
def test_a_number_is_written_as_a_person_would(text: str, expected: str) -> None:
    assert text.replace(SPACE, " ") == expected


@pytest.mark.parametrize(
    "write",
    [
        numbers.decimal,
        numbers.count,
        numbers.percent,
        numbers.memory,
        numbers.file_size,
        numbers.duration,
        numbers.rate,
    ],
)
def test_nothing_known_is_a_dash(write: object) -> None:
    assert callable(write)
    assert write(None) == "–"


def test_a_unit_never_parts_from_its_number() -> None:
    assert numbers.duration(134) == f"2{SPACE}min 14{SPACE}s"


def test_a_time_of_another_year_says_its_year() -> None:
    assert " 2001 " in numbers.when(datetime(2001, 2, 3, 12, tzinfo=UTC))
    assert numbers.iso(datetime(2001, 2, 3, 12, tzinfo=UTC)) == "2001-02-03T12:00:00+00:00"
