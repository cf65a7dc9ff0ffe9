"""What an attempt says about the rows that it read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from app.domain.data.dataset import Row, Split
from tests.support.tiny import preferences as tiny_preferences
from tests.unit.worker.engine.tasks.test_preference import PAIR, encoded
from worker.engine.data.describe import describe_data


def test_max_length_limits_each_answer_of_a_pair_with_its_prompt(tmp_path: Path) -> None:
    """So the length that most rows do not exceed is that of the longer answer, not that of both."""
    rows: list[Row] = [PAIR._replace(item=str(place)) for place in range(19)]
    rows.append(PAIR._replace(item="long", rejected=" one two three four five six"))
    splits: Mapping[Split, Sequence[Row]] = {"train": rows}
    for limit, truncated in ((64, 0), (8, 1), (7, 20)):
        folder = tmp_path / str(limit)
        examples = encoded(rows, folder, max_length=limit)
        seen = describe_data(splits, examples, tiny_preferences.FAST.per_device_train_batch_size, 0)
        assert (seen.truncated_rows, seen.long_tokens) == (truncated, 7)
