"""A family of methods is told by its marker, by its dash, and by its colour, whatever colours a reader can see."""

import re
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from app.domain.methods import METHODS, Family
from app.settings import ROOT
from app.web.figures.drawing.theme import FAMILIES

CSS = ROOT / "static" / "css"
TOKENS = dict(re.findall(r"--([\w-]+): light-dark\((#\w+, #\w+)\)", (CSS / "tokens.css").read_text()))
FAMILY_NAMES = get_args(Family)
THEMES = (0, 1)
SURFACES = ("surface", "sunken", "best")
# Severe protanopia, deuteranopia and tritanopia on linear RGB: Machado, Oliveira & Fernandes 2009, table 1
SEEN = {
    "all": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# Linear RGB to OKLab: Ottosson 2020
CONES = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]])
OKLAB = np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])
APART = 0.06
"""A distance in OKLab at which two marks side by side are plainly of two colours."""

Colour = NDArray[np.float64]


def linear(token: str, theme: int) -> Colour:
    """A token's colour in a theme (0 light, 1 dark) as linear RGB."""
    code = TOKENS[token].split(", ")[theme]
    channels = np.array([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(a: Colour, b: Colour) -> float:
    """Of two colours by WCAG 2."""
    dark, light = sorted(float(c @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (light + 0.05) / (dark + 0.05)


def oklab(colour: Colour) -> Colour:
    """Where equal steps look equal."""
    return OKLAB @ np.cbrt(CONES @ np.clip(colour, 0, 1))


@pytest.mark.parametrize("family", [*FAMILY_NAMES, "base"])
def test_a_family_can_be_read_on_every_surface(family: str) -> None:
    for theme in THEMES:
        for surface in SURFACES:
            assert contrast(linear(f"m-{family}", theme), linear(surface, theme)) >= 4.5


@pytest.mark.parametrize("eyes", SEEN)
@pytest.mark.parametrize("theme", THEMES)
def test_families_differ_in_colour_whatever_one_can_see(theme: int, eyes: str) -> None:
    seen = {family: oklab(SEEN[eyes] @ linear(f"m-{family}", theme)) for family in FAMILY_NAMES}
    close = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in combinations(seen, 2)}
    assert {pair: round(d, 3) for pair, d in close.items() if d < APART} == {}


def test_families_differ_in_marker_and_dash() -> None:
    assert set(FAMILIES) == {*FAMILY_NAMES, "base"}
    assert len({style.marker for style in FAMILIES.values()}) == len(FAMILIES)
    dashes = [style.dash for family, style in FAMILIES.items() if family not in ("full", "lora")]
    assert len(set(dashes)) == len(dashes)
    assert all(sum(dash) for dash in dashes)


@pytest.mark.parametrize("family", [*FAMILY_NAMES, "base"])
def test_a_family_has_its_marker_and_its_colour_on_pages(family: str) -> None:
    assert f'<symbol id="k-{family}"' in (ROOT / "templates" / "layouts" / "sprite.html").read_text()
    assert f'[data-method="{family}"] {{ --m: var(--m-{family}); }}' in (CSS / "components.css").read_text()


def test_every_method_is_of_a_family() -> None:
    assert {facts.family for facts in METHODS.values()} <= set(FAMILY_NAMES)
