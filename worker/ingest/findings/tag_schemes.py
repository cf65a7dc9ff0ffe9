"""The scheme of a column of tags, read before the rows are made, and what its conversion to IOB2 changes."""

from collections.abc import Mapping, Sequence

from app.domain.data.findings import MOST_EXAMPLES, Details, Example, Finding, excerpt
from app.domain.data.tag_schemes import Scheme, SchemeEvidence, to_iob2
from worker.ingest.readers.batches import Value
from worker.ingest.rows.columns import Broken, words_of

SHOWN_TAGS = 12
"""Tags of an example row that are shown."""


class TagScheme:
    """Collects the tags of a column."""

    def __init__(self, several_files: bool, label_names: Mapping[str, str] | None = None) -> None:
        self._several, self._names = several_files, label_names or {}
        self._evidence = SchemeEvidence()
        self._changed: dict[Scheme, int] = {"IOB1": 0, "IOBES": 0}
        self._examples: dict[Scheme, list[tuple[int | None, str, list[str]]]] = {"IOB1": [], "IOBES": []}

    def add(self, values: Sequence[Value], rows: Sequence[int | None], file: str) -> bool:
        """Take the values of a batch into account. False once one of them is no row of tags of a scheme."""
        for value, row in zip(values if self._evidence.possible else (), rows, strict=False):
            words = words_of(value)
            if isinstance(words, Broken):
                continue
            tags = [self._names.get(word, word) for word in words]
            if not self._evidence.add(tags):
                return False
            for scheme, examples in self._examples.items():
                if to_iob2(tags, scheme) != tags:
                    self._changed[scheme] += 1
                    if len(examples) < MOST_EXAMPLES:
                        examples.append((row, file if self._several else "", tags[:SHOWN_TAGS]))
        return self._evidence.possible

    @property
    def scheme(self) -> Scheme | None:
        """The scheme that is converted; None where tags stay as they are."""
        return self._evidence.scheme

    def finding(self, column: str) -> Finding | None:
        """What is converted, with example rows before and after."""
        scheme = self.scheme
        if scheme is None:
            return None
        kind: Scheme = "IOB1" if scheme == "IOB1" else "IOBES"  # BILOU changes in the same rows
        examples = [
            Example(row=row, file=file, excerpt=excerpt(f"{' '.join(tags)} → {' '.join(to_iob2(tags, scheme))}"))
            for row, file, tags in self._examples[kind]
        ]
        return Finding(
            code="tags-converted",
            severity="notes",
            count=self._changed[kind],
            column=column,
            details=Details(scheme=scheme),
            examples=examples,
        )
