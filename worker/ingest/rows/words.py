"""Lists of words, or of their tags, in a field of any kind."""

from typing import NamedTuple

from app.domain.data.guesses.written_lists import read_list
from worker.ingest.readers.batches import Value
from worker.ingest.rows.columns import shown


class Broken(NamedTuple):
    """A value that is no list of words."""

    shown: str


def words_of(value: Value) -> list[str] | Broken:
    """The words in a list, in a list as JSON, Python or numpy writes it, or in a text between its white space."""
    if value is None:
        return []
    if isinstance(value, str):
        listed = read_list(value)
        value = value.split() if listed is None else listed
    if not isinstance(value, list) or any(word is ... or isinstance(word, list | dict) for word in value):
        return Broken(shown(value)[:1000])
    words = [shown(word) for word in value]
    return Broken(shown(value)[:1000]) if any(not word or word.isspace() for word in words) else words
