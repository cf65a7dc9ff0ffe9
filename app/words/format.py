"""Numbers as people read them. Bytes, seconds and fractions come in; MiB, minutes and percent go out.

A number stays on one line with its unit, a minus is U+2212, and an unknown number is an en dash. Signs and dates are
those of the language of the page: `22,715,141` and `0.5` are `22 715 141` and `0,5` in Bulgarian.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from math import floor, isfinite, log10

from babel.dates import format_datetime
from babel.numbers import format_decimal, get_decimal_symbol

from app.words.i18n import gettext as _
from app.words.i18n import language

NOTHING = "–"
NBSP = "\N{NO-BREAK SPACE}"
NNBSP = "\N{NARROW NO-BREAK SPACE}"
NBHYPHEN = "\N{NON-BREAKING HYPHEN}"
MINUS = "\N{MINUS SIGN}"
KIB = 1024
MIB = 1024**2
GIB = 1024**3
GROUPED_FROM = {"bg": 10_000}
"""The least number whose thousands are grouped, where that is not 1,000 (CLDR's minimumGroupingDigits)."""
DAYS = {"en": ("d MMM", "d MMM y"), "bg": ("dd.MM,", "dd.MM.y,")}
"""A day of this year, and one of another."""


def decimal(value: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """`90.1`, `−8.6`, `22,715,141`; with `signed` also `+0.3`."""
    if value is None:
        return NOTHING
    rounded = round(value, digits) + 0.0  # −0.0 becomes 0.0
    pattern = "#,##0" + ("." + "0" * digits if digits else "")
    size, spoken = abs(rounded), language()
    grouped = size >= GROUPED_FROM.get(spoken, 1000)
    text = format_decimal(size, pattern, locale=spoken, group_separator=grouped).replace(NBSP, NNBSP)
    return (MINUS if rounded < 0 else "+" if signed and rounded > 0 else "") + text


def count(value: int | None) -> str:
    """`22,715,141`."""
    return decimal(value, 0)


def short_count(value: int | None) -> str:
    """`22.7 M`, `75.7 k`: where the exact number stands elsewhere."""
    if value is None:
        return NOTHING
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= size:
            return f"{significant(value / size, 3)}{NBSP}{unit}"
    return count(value)


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as `90.1 %`."""
    return NOTHING if fraction is None else f"{decimal(fraction * 100, digits)}{NBSP}%"


def confidence(fraction: float) -> str:
    """Confidence of an interval: `95 %`, `97.5 %`, `99.96 %`."""
    digits = len(f"{fraction * 100:.4g}".partition(".")[2])
    return percent(fraction, digits)


def signed_percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction that may lie on either side, as `+0.7 %`, `−1.2 %`."""
    return NOTHING if fraction is None else f"{decimal(fraction * 100, digits, signed=True)}{NBSP}%"


def hundred(fraction: float | None, digits: int = 1) -> str:
    """A fraction in percent without the sign, for a column that names it: `90.1`."""
    return NOTHING if fraction is None else decimal(fraction * 100, digits)


def points(difference: float | None, digits: int = 1) -> str:
    """A difference of fractions in points, with its sign: `+0.3`, `−8.6`."""
    return NOTHING if difference is None else decimal(difference * 100, digits, signed=True)


def plus_minus(half: float | None, digits: int = 1) -> str:
    """The half-width of an interval of fractions, in points: `± 0.8`; `± ?` where the interval has no end."""
    if half is None:
        return ""
    return f"±{NBSP}{decimal(half * 100, digits) if isfinite(half) else '?'}"


def reach(middle: float, low: float, high: float, *, signed: bool = False) -> str:
    """How far an interval of fractions reaches around its middle, in points: `± 0.8`; `(97.2 to 100.0)` where one side
    is longer, since the interval ends at the range of a score or is uneven by its nature."""
    if even(middle, low, high):
        return plus_minus((high - low) / 2)
    ends = (decimal(end * 100, 1, signed=signed) for end in (low, high))
    return _("(%(low)s to %(high)s)", **dict(zip(("low", "high"), ends, strict=True)))


def even(middle: float, low: float, high: float) -> bool:
    """Both sides of an interval of fractions are equally long, as far as a tenth of a point shows."""
    return abs(high + low - 2 * middle) < 0.001


def margin_head(margin: float) -> str:
    """`Margin ± 2`, in points."""
    size = round(100 * margin, 6)
    return _("Margin ± %(points)s", points=decimal(size, 0 if size.is_integer() else 2))


def points_between(delta: float, low: float, high: float) -> str:
    """A difference with its interval, in points: `+0.3 ± 1.2`; `+0.7, −3.1 to +4.5` where the interval is uneven."""
    if even(delta, low, high):
        return f"{points(delta)}{NBSP}{plus_minus((high - low) / 2)}"
    return _("%(delta)s, %(low)s to %(high)s", delta=points(delta), low=points(low), high=points(high))


def share(part: float | None, whole: float | None) -> str:
    """Part of a whole: `100 %`, `37 %`, `0.33 %`, `0.01 %`, `0.0002 %`."""
    if part is None or not whole:
        return NOTHING
    per_cent = 100 * part / whole
    digits = 0 if per_cent >= 9.95 or not part else 1 if per_cent >= 0.995 else max(2, -floor(log10(per_cent)))
    return f"{decimal(per_cent, digits)}{NBSP}%"


def memory_unit(largest: float) -> tuple[float, str]:
    """The size and the name of the unit of a column or an axis, by its largest value: MiB, GiB from ten of them on."""
    return (GIB, "GiB") if largest >= 10 * GIB else (MIB, "MiB")


def memory_in(value: float | None, largest: float, digits: int = 0) -> str:
    """Bytes without the unit, for a column that names it: `150`; with another digit in GiB."""
    size, unit = memory_unit(largest)
    return NOTHING if value is None else decimal(value / size, digits + (unit == "GiB"))


def memory(value: float | None) -> str:
    """Bytes in memory: `150 MiB`, `9.4 GiB`."""
    if value is None:
        return NOTHING
    if value >= GIB:
        return f"{decimal(value / GIB)}{NBSP}GiB"
    return f"{decimal(value / MIB, 0 if value >= 10 * MIB else 1)}{NBSP}MiB"


def file_size(value: float | None) -> str:
    """Bytes on disk, in the units of memory: `86.7 MiB`, `0.30 MiB`, `37 KiB`."""
    if value is None:
        return NOTHING
    for unit, size, least in (("GiB", GIB, GIB), ("MiB", MIB, MIB / 10)):
        if value >= least:
            return f"{significant(value / size, 3 if value >= size else 2)}{NBSP}{unit}"
    return f"{significant(value / KIB, 2)}{NBSP}KiB" if value >= KIB else f"{count(int(value))}{NBSP}B"


def energy(joules: float | None) -> str:
    """`840 J`, `12.5 kJ`, `1.3 kWh`."""
    if joules is None:
        return NOTHING
    for unit, size in (("kWh", 3.6e6), ("kJ", 1e3)):
        if joules >= size * (1 if unit == "kWh" else 10):
            return f"{decimal(joules / size)}{NBSP}{unit}"
    return f"{decimal(joules, 0)}{NBSP}J"


def duration(seconds: float | None) -> str:
    """`0.2 s`, `28 s`, `2 min 14 s`, `1 h 5 min`, `3 d 2 h`."""
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return f"{decimal(seconds)}{NBSP}{_('s')}"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded}{NBSP}{_('s')}"
    for size, unit, part, small in ((86400, _("d"), 3600, _("h")), (3600, _("h"), 60, _("min"))):
        if rounded >= size:
            return _two(rounded // size, unit, rounded % size // part, small)
    return _two(rounded // 60, _("min"), rounded % 60, _("s"))


def age(seconds: float | None) -> str:
    """A duration in its largest unit, whole: `9 s`, `20 min`, `3 h`, `2 d`; it changes while the page is open."""
    if seconds is None:
        return NOTHING
    for size, unit in ((86400, _("d")), (3600, _("h")), (60, _("min"))):
        if seconds >= size:
            return f"{int(seconds // size)}{NBSP}{unit}"
    return f"{round(seconds)}{NBSP}{_('s')}"


def seconds_since(moment: datetime) -> float:
    """Until now."""
    return (datetime.now(UTC) - moment).total_seconds()


def rate(value: float | None) -> str:
    """A learning rate: `2e-5`, `1.5e-4`, `0.01`."""
    if value is None:
        return NOTHING
    return as_read(typed(value))


def typed(value: float) -> str:
    """A rate as it is typed into a form, in every language: `1.5e-4`, `0.01`."""
    if value == 0 or 0.01 <= value < 10000:
        return f"{value:.6g}"
    mantissa, _e, exponent = f"{value:.6e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def general(value: float, digits: int = 6) -> str:
    """A number with the digits that it has, up to so many, and without groups: `0.5`, `12`, `1e-05`."""
    return as_read(f"{value:.{digits}g}")


def as_read(number: str) -> str:
    """A plain number with the decimal sign of the language."""
    return number.replace(".", decimal_sign(language())) if "." in number else number


@cache
def decimal_sign(code: str) -> str:
    """Decimal sign of a language: `.` or `,`."""
    return str(get_decimal_symbol(code))


def separator() -> str:
    """What stands between numbers in a row: a semicolon where a comma is the decimal sign."""
    return ", " if decimal_sign(language()) == "." else "; "


def factor(value: float) -> str:
    """A number in an address: `0.6`, `0`."""
    return f"{value:g}"


def significant(value: float, digits: int) -> str:
    """So many significant digits, never in scientific notation: `22.7`, `0.31`, `134`."""
    before = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return decimal(value, max(0, digits - before))


def when(moment: datetime | None) -> str:
    """A point in time, in this machine's zone: `12 Nov 14:04`; the year where it is not this one."""
    if moment is None:
        return NOTHING
    local = moment.astimezone()
    other_year = local.year != datetime.now(UTC).astimezone().year
    return format_datetime(local, f"{_days()[other_year]} HH:mm", locale=language())


def dated(moment: datetime) -> str:
    """A point in time that is read anywhere and at any time later: `12 Nov 2026, 14:04 UTC`."""
    return format_datetime(moment.astimezone(UTC), f"{_days()[1].rstrip(',')}, HH:mm 'UTC'", locale=language())


def _days() -> tuple[str, str]:
    return DAYS.get(language(), DAYS["en"])


def clock(moment: datetime) -> str:
    """The time of day, in this machine's zone: `14:04:31`."""
    return format_datetime(moment.astimezone(), "HH:mm:ss", locale=language())


def iso(moment: datetime) -> str:
    """For `<time datetime>`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{NBSP}{unit} {small}{NBSP}{small_unit}" if small else f"{large}{NBSP}{unit}"


def capitalized(text: str) -> str:
    """With a capital first letter; the rest stays as it is."""
    return text[:1].upper() + text[1:]


def join_names(names: Sequence[str]) -> str:
    """`full`, `full and LoRA r=8`, `full, LoRA r=8 and head only`."""
    if len(names) < 2:
        return "".join(names)
    return _("%(first)s and %(last)s", first=", ".join(names[:-1]), last=names[-1])


FILTERS = (
    margin_head,
    decimal,
    count,
    capitalized,
    confidence,
    join_names,
    percent,
    signed_percent,
    hundred,
    plus_minus,
    share,
    memory_unit,
    memory_in,
    memory,
    file_size,
    energy,
    duration,
    age,
    seconds_since,
    rate,
    general,
    factor,
    when,
    dated,
    clock,
    iso,
)
"""What templates may use, under their own names."""
