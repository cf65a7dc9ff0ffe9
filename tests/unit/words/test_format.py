"""Numbers as people read them."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from app.web.numbers import plain_number
from app.words import format
from app.words.format import GIB, MIB
from app.words.i18n import DEFAULT, speak

SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format.decimal(-8.64), "−8.6"),
        (format.decimal(-0.04, signed=True), "0.0"),
        (format.decimal(0.26, signed=True), "+0.3"),
        (format.count(22_715_141), "22,715,141"),
        (format.short_count(22_715_141), "22.7 M"),
        (format.percent(0.9012), "90.1 %"),
        (format.points(-0.086), "−8.6"),
        (format.plus_minus(0.0081), "± 0.8"),
        (format.plus_minus(float("inf")), "± ?"),
        (format.share(75_653, 22_715_141), "0.33 %"),
        (format.share(37, 100), "37 %"),
        (format.share(2_000, 1_034_512_384), "0.0002 %"),
        (format.share(0, 100), "0 %"),
        (format.share(1, 0), "–"),
        (format.memory(150 * MIB), "150 MiB"),
        (format.memory(2.31 * MIB), "2.3 MiB"),
        (format.memory(9.4 * GIB), "9.4 GiB"),
        (format.memory_in(150 * MIB, 403 * MIB, 1), "150.0"),
        (format.memory_in(150 * MIB, 10 * 1024 * MIB), "0.1"),
        (format.memory_in(36 * 1024 * MIB, 36 * 1024 * MIB), "36.0"),
        (format.memory_in(None, 0), "–"),
        (format.memory_unit(10 * 1024 * MIB)[1], "GiB"),
        (format.memory_unit(9.9 * 1024 * MIB)[1], "MiB"),
        (format.file_size(90_900_000), "86.7 MiB"),
        (format.file_size(310_000), "0.30 MiB"),
        (format.file_size(38_123), "37 KiB"),
        (format.file_size(120), "120 B"),
        (format.file_size(867 * MIB), "867 MiB"),
        (format.file_size(2.5 * GIB), "2.50 GiB"),
        (format.energy(840.4), "840 J"),
        (format.energy(12_500), "12.5 kJ"),
        (format.energy(4_680_000), "1.3 kWh"),
        (format.energy(None), "–"),
        (format.duration(0.2), "0.2 s"),
        (format.duration(9.96), "10 s"),
        (format.duration(134), "2 min 14 s"),
        (format.duration(120), "2 min"),
        (format.duration(59.7), "1 min"),
        (format.duration(3_900), "1 h 5 min"),
        (format.duration(180_000), "2 d 2 h"),
        (format.age(134), "2 min"),
        (format.rate(2e-5), "2e-5"),
        (format.rate(1.5e-4), "1.5e-4"),
        (format.rate(0.002), "2e-3"),
        (format.rate(0.01), "0.01"),
        (format.rate(3.0), "3"),
        (format.rate(0), "0"),
    ],
)
def test_a_number_is_written_as_a_person_would(text: str, expected: str) -> None:
    assert text.replace(SPACE, " ") == expected


@pytest.mark.parametrize(
    "write",
    [format.decimal, format.count, format.percent, format.memory, format.file_size, format.duration, format.rate],
)
def test_nothing_known_is_a_dash(write: object) -> None:
    assert callable(write)
    assert write(None) == "–"


def test_a_unit_never_parts_from_its_number() -> None:
    assert format.duration(134) == f"2{SPACE}min 14{SPACE}s"


def test_a_time_of_another_year_says_its_year() -> None:
    assert " 2001 " in format.when(datetime(2001, 2, 3, 12, tzinfo=UTC))
    assert format.iso(datetime(2001, 2, 3, 12, tzinfo=UTC)) == "2001-02-03T12:00:00+00:00"


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda: format.decimal(-8.64), "−8,6"),
        (lambda: format.count(9_999), "9999"),
        (lambda: format.count(22_715_141), "22\N{NARROW NO-BREAK SPACE}715\N{NARROW NO-BREAK SPACE}141"),
        (lambda: format.percent(0.9012), "90,1 %"),
        (lambda: format.rate(1.5e-4), "1,5e-4"),
        (lambda: format.typed(1.5e-4), "1.5e-4"),
        (lambda: format.general(0.5), "0,5"),
        (lambda: format.general(12), "12"),
        (lambda: format.duration(134), f"2{SPACE}мин 14{SPACE}с"),
        (lambda: format.join_names(["full", "LoRA", "head only"]), "full, LoRA и head only"),
        (lambda: format.dated(datetime(2026, 11, 30, 14, 4, tzinfo=UTC)), "30.11.2026, 14:04 UTC"),
        (lambda: format.when(datetime(2020, 11, 30, 14, 4).astimezone()), "30.11.2020, 14:04"),
    ],
)
def test_numbers_and_dates_have_the_signs_of_the_language(write: Callable[[], str], expected: str) -> None:
    speak("bg")
    try:
        assert write() == expected.replace(" %", f"{SPACE}%")
    finally:
        speak(DEFAULT)


@pytest.mark.parametrize("text", ["22 715 141", "0,5", "1,5e-4", "−8,6"])
def test_numbers_as_bulgarian_pages_write_them_can_be_typed(text: str) -> None:
    assert plain_number(text) == text.replace(" ", "").replace(",", ".").replace("−", "-")
