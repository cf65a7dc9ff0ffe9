"""Labels of different types that become one: 1, 1.0 and "1"."""

import json
from collections.abc import Iterator, Mapping, Sequence

from app.domain.data.findings import MOST_EXAMPLES, MOST_NAMED, Details, Example, Finding, excerpt
from app.domain.data.guesses.mapping import MOST_LABELS
from worker.ingest.readers.batches import Value
from worker.ingest.rows.columns import not_finite, shown


class LabelTypes:
    """Collects the labels of a column with their types."""

    def __init__(self, column: str, label_names: Mapping[str, str], several_files: bool) -> None:
        self._column, self._names, self._several = column, label_names, several_files
        self._variants: dict[str, dict[type, Example]] = {}

    def add(self, values: Sequence[Value], rows: Sequence[int], file: str) -> None:
        """Take the values of a batch into account, unless there are more labels than a dataset may have."""
        for value, row in zip(values, rows, strict=False):
            if isinstance(value, str | int | float) and not not_finite(value) and len(self._variants) <= MOST_LABELS:
                kinds = self._variants.setdefault(shown(value), {})
                if type(value) not in kinds:
                    name, written = file if self._several else "", json.dumps(value, ensure_ascii=False)
                    kinds[type(value)] = Example(row=row, file=name, excerpt=excerpt(written))

    def findings(self) -> Iterator[Finding]:
        """One finding, unless the mapping names these labels."""
        merged = [
            list(kinds.values()) for text, kinds in self._variants.items() if len(kinds) > 1 and text not in self._names
        ]
        if merged:
            variants = [example for group in merged for example in group]
            yield Finding(
                code="labels-alike",
                severity="warns",
                count=len(variants),
                column=self._column,
                details=Details(
                    alike=[[example.excerpt for example in group] for group in merged[:MOST_NAMED]],
                    differ_by="type",
                ),
                examples=variants[:MOST_EXAMPLES],
            )
