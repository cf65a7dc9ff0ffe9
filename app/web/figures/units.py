"""The unit of an axis, from its largest value: what one unit is of it, and its name."""

from app.web.format import GIB, MIB
from app.web.i18n import gettext as _


def memory_unit(most: float) -> tuple[float, str]:
    """MiB, or GiB from ten of them on."""
    return (GIB, "GiB") if most >= 10 * GIB else (MIB, "MiB")


def time_unit(most: float) -> tuple[float, str]:
    """Seconds, minutes from ten of them on, hours from ten of them on."""
    return (1.0, _("s")) if most < 600 else (60.0, _("min")) if most < 36_000 else (3600.0, _("h"))


def energy_unit(most: float) -> tuple[float, str]:
    """J, kJ from ten of them on, kWh from one on."""
    return (1.0, "J") if most < 1e4 else (1e3, "kJ") if most < 3.6e6 else (3.6e6, "kWh")
