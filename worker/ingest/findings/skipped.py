"""Files of an archive that are not read, by their endings."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from app.domain.data.findings import MOST_EXAMPLES, MOST_NAMED, Details, Example, Finding, excerpt
from app.domain.data.images import UNREAD_ENDINGS


def by_ending(paths: Sequence[str]) -> list[tuple[str, int]]:
    """Endings in lower case with their numbers, the most frequent first; a file without one stands for itself."""
    files = map(PurePosixPath, paths)
    return Counter(excerpt(file.suffix.lower() or file.name)[:40] for file in files).most_common()


def skipped_files(skipped: Mapping[str, Sequence[str]], *, several: bool) -> Iterator[Finding]:
    """The finding about files skipped in each archive; `several`: the upload has other files. It warns if images are
    among them, such as HEIC."""
    paths = [path for of_archive in skipped.values() for path in of_archive]
    if not paths:
        return
    endings = by_ending(paths)
    examples = [
        Example(row=None, file=archive if several else "", excerpt=excerpt(path))
        for archive, of_archive in skipped.items()
        for path in of_archive[:MOST_EXAMPLES]
    ]
    yield Finding(
        code="skipped-files",
        severity="warns" if any(ending in UNREAD_ENDINGS for ending, _number in endings) else "notes",
        count=len(paths),
        column="image",
        details=Details(
            labels=[ending for ending, _number in endings[:MOST_NAMED]],
            label_rows=[number for _ending, number in endings[:MOST_NAMED]],
        ),
        examples=examples[:MOST_EXAMPLES],
    )
