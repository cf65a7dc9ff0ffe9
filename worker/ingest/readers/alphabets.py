"""The Windows encoding of a text in a European language, by the letters that each language has beside a to z.

General statistics read Portuguese and Swedish as cp1250 ("năo", "pĺ"), since the encodings share most letters.
"""

import re
from collections import Counter

_ALPHABETS = {
    "cp1252": (
        *("àâæçèéêëîïôœùûüÿ", "äöüß", "áéíñóúü", "áâãàçéêíóôõúü", "àèéìíîòóù", "àçèéíïòóúü", "áéèëêïóöü", "åäöé"),
        *("æøåéóòôê", "äöåšž", "áðéíóúýþæö", "äöõüšž"),
    ),
    "cp1250": ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ"),
    "cp1254": ("çğıöşüâîû",),
    "cp1257": ("ąčęėįšųūž", "āčēģīķļņšūž"),
}
"""French, German, Spanish, Portuguese, Italian, Catalan, Dutch, Swedish, Danish and Norwegian, Finnish, Icelandic,
Estonian; Polish, Czech, Slovak, Hungarian, Croatian and Slovene, Romanian; Turkish; Lithuanian, Latvian. Of equal ones
the first encoding is chosen, so cp1252 stands first."""
_WITHIN_WORDS = re.compile(r"[^\W\d_]|(?<=[^\W\d_])[^\x00-\x7f](?=[^\W\d_])")
"""Letters, and signs between two of them, which a wrong encoding makes of letters."""
_NO_LETTERS = set("’–—…·\xa0\xad")
_LEAST_SHARE = 0.9
_MOST_FOREIGN = 0.4
"""Share of letters beyond a to z; in Cyrillic or Greek text nearly all are."""


def european_encoding(sample: bytes) -> str:
    """The encoding in which one language's letters explain the text best; empty if none explains nine tenths."""
    shares = {name: _share(sample.decode(name, errors="replace"), letters) for name, letters in _ALPHABETS.items()}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= _LEAST_SHARE else ""


def _share(text: str, alphabets: tuple[str, ...]) -> float:
    """The share of letters beyond a to z that the best of some alphabets has."""
    signs = Counter(_WITHIN_WORDS.findall(text.lower()))
    foreign = {sign: count for sign, count in signs.items() if not sign.isascii() and sign not in _NO_LETTERS}
    total = sum(foreign.values())
    if not total or total > _MOST_FOREIGN * sum(signs.values()):
        return 0.0
    return max(sum(foreign.get(sign, 0) for sign in set(alphabet)) for alphabet in alphabets) / total
