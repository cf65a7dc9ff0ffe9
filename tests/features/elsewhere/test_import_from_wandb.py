"""Runs that W&B left on disk: files that wandb 0.31 wrote (tests/data/wandb), whole, cut off and damaged."""

import json
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.features.elsewhere.test_import_from_trackers import losses
from tests.integration.tracking.test_trackers import sqlite
from tests.integration.web.test_cli import vezna
from tests.support.rows.external import FULL, LORA
from vezna import Client
from vezna.errors import NotImported
from vezna.trackers.recorded.reading import distinct
from vezna.trackers.recorded.wandb import BLOCK, FIRST, FRAGMENT, LAST, MIDDLE, START, WHOLE, fields, records
from vezna.trackers.targets import recorded_at

FILES = Path(__file__).parents[2] / "data" / "wandb" / "offline-runs.zip"
LARGE_TEXT = 70_000
"""Characters of a value in the configuration of the run `large`."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `wandb` with seven runs, of two projects."""
    with zipfile.ZipFile(FILES) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "wandb"


def file_of(folder: Path, run_id: str) -> Path:
    """The log of a run."""
    [file] = folder.glob(f"*/run-{run_id}.wandb")
    return file


@sqlite
def test_offline_runs_of_wandb_are_imported_once_without_a_verdict(
    study_server: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("import-runs", f"wandb:{folder}", "--study", "1", "--metric", "eval/accuracy", "--url", study_server)
    assert vezna(monkeypatch, *command, "--arm", LORA, "--run", "lora*", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["seed"], first["score"], second["seed"], second["score"]) == (0, 0.5, 1, 0.625)
    assert first["name"].startswith("lora 2") and first["name"].endswith("-lora0000"), "the folder tells them apart"
    assert first["lacking"] == ["item_scores", "splits.train", "splits.test", "metric_version"]
    assert vezna(monkeypatch, *command, "--arm", FULL, "--run", "full") == 0
    moved = folder.rename(folder.parent / "moved")
    again = (command[0], f"wandb:{moved}", *command[2:], "--arm", LORA, "--run", "lora*")
    assert vezna(monkeypatch, *again) == 0
    assert "was imported before" in capsys.readouterr().out
    with Client(study_server) as client:
        run = client.run(first["run_id"])
        assert (run.step, run.score) == (21, 0.5), "steps that count from 0 count from 1"
        assert (run.model_extra or {})["imported"]["settings"] == {"training.seed": 0, "training.r": 8}
        assert losses(client, first["run_id"]) == pytest.approx([0.9, 0.45, 0.3])
        comparison = client.compare(collection=1)
    kinds = {confounder.kind for confounder in comparison.confounders if confounder.effect == "verdict"}
    assert {"no_items", "splits", "metric_unproven"} <= kinds


def test_configuration_history_and_summary_are_read(folder: Path) -> None:
    [run] = recorded_at(f"wandb:{folder}#headlines", ["full"])
    assert run.key.startswith("wandb headlines full0000 ")
    assert dict(run.parameters) == {"seed": "0", "lr": "0.001", "modules": '["q", "v"]'}
    # Not the text `note`; `best` and the maximum of the accuracy are in the summary only.
    assert set(run.series) == {
        "train/loss", "train/learning_rate", "grad_norm", "eval.f1", "eval/accuracy", "eval/accuracy.max", "best",
    }  # fmt: skip
    assert [(point.step, point.value) for point in run.series["train/loss"]] == [(0, 0.9), (10, 0.45), (20, 0.3)]
    seconds = [point.seconds for point in run.series["train/loss"]]
    assert 0 < seconds[0] <= seconds[1] <= seconds[2] < 10
    assert str(run.series["grad_norm"][1].value) == "nan"
    assert (run.series["best"][0].value, run.series["best"][0].step) == (0.8, 20)

    file = file_of(folder, "large000")
    assert file.stat().st_size > 2 * BLOCK, "a record lies in several blocks"
    [large] = recorded_at(f"wandb:{file}", ())
    assert large.parameters["text"] == "x" * LARGE_TEXT
    assert (large.parameters["seed"], large.parameters["late"]) == ("3", "true")
    assert [run.name for run in recorded_at(f"wandb:{folder}#other", ())] == ["other"]


@pytest.mark.parametrize(
    ("place", "name", "words"),
    [
        ("", "failed", "its status is failed. Select runs that have finished"),
        ("", "killed", "it is still running, or its process was killed"),
        ("", "nothing", "Choose from the runs there: full, failed, killed, large, lora 2"),
        ("#nothing", "*", "it has no runs of Weights & Biases. Name the folder wandb"),
        ("/nothing", "*", "it has no runs of Weights & Biases"),
    ],
)
def test_what_is_not_imported_is_named(folder: Path, place: str, name: str, words: str) -> None:
    with pytest.raises(NotImported, match=words):
        recorded_at(f"wandb:{folder}{place}", [name])


def test_a_log_that_is_cut_off_anywhere_gives_the_records_before(folder: Path) -> None:
    file = file_of(folder, "full0000")
    data, whole = file.read_bytes(), list(records(file))
    assert len(whole) > 15
    for length in range(0, len(data), 7):
        file.write_bytes(data[:length])
        there = list(records(file))
        assert there == whole[: len(there)] and len(there) < len(whole)
        assert sum(map(len, there)) <= length
        with pytest.raises(NotImported, match="it is still running"):
            recorded_at(f"wandb:{file}", ())
    last = FRAGMENT.size + len(whole[-1])
    file.write_bytes(data[:-last] + bytes(last))  # the file system kept the length, but not the content
    assert list(records(file)) == whole[:-1]

    # In the middle of a record that lies in several blocks.
    file = file_of(folder, "large000")
    data = file.read_bytes()
    file.write_bytes(data[: 2 * BLOCK + 100])
    assert len(list(records(file))) == 1


def test_a_changed_byte_never_gives_another_run(folder: Path) -> None:
    file = file_of(folder, "full0000")
    data = file.read_bytes()
    for place in range(0, len(data), 11):
        file.write_bytes(data[:place] + bytes([data[place] ^ 0x21]) + data[place + 1 :])
        with pytest.raises(NotImported, match=r"it is broken at byte|it is no file of Weights|it is still running"):
            recorded_at(f"wandb:{file}", ())
    # Only the run that is selected is read.
    assert recorded_at(f"wandb:{folder}", ["other"])[0].name == "other"
    with pytest.raises(NotImported, match="full0000"):
        file.write_bytes(b"[]")
        recorded_at(f"wandb:{folder}", ["full0000"])


def test_a_part_without_its_beginning_is_broken(folder: Path) -> None:
    file = file_of(folder, "large000")
    data = file.read_bytes()
    file.write_bytes(START + bytes(BLOCK - len(START)) + data[BLOCK:])
    assert list(records(file)) == [], "zeros are the end of a log"
    file.write_bytes(data[:BLOCK] + data[2 * BLOCK :])
    [_header, run, *_rest] = records(file)  # its middle is gone, but each part has a right checksum
    with pytest.raises(ValueError, match="cut off"):
        list(fields(run))
    with pytest.raises(NotImported, match=r"it is broken \(a field is cut off\)"):
        recorded_at(f"wandb:{file}", ())


@pytest.mark.parametrize("message", [b"\x80", b"\x0a\x05abc", b"\x0b", b"\x09abc", b"\x80" * 12 + b"\x00"])
def test_a_message_that_is_none_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|no field"):
        list(fields(message))


def test_numbers_strings_and_fixed_fields_are_told_apart() -> None:
    message = b"\x08\x96\x01" + b"\x12\x02hi" + b"\x1d\x01\x02\x03\x04" + b"\x21" + bytes(range(8))
    assert list(fields(message)) == [(1, 150), (2, b"hi"), (3, b"\x01\x02\x03\x04"), (4, bytes(range(8)))]


def part(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    """A number in it."""
    parts = [(number >> shift & 0x7F) | 0x80 for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*parts[:-1], parts[-1] & 0x7F])


def values(**named: str) -> bytes:
    """Items with values in JSON."""
    return b"".join(part(1, part(1, name.encode()) + part(16, text.encode())) for name, text in named.items())


def write_run(file: Path, run_id: str, *rows: bytes, seed: str = "0") -> None:
    """The log of a finished run of the name `full`."""
    run = part(17, part(1, run_id.encode()) + part(4, values(seed=seed)) + part(8, b"full"))
    log = bytearray(START)
    for record in (run, *(part(2, row) for row in rows), part(18, b"\x08\x00")):
        left, first = record, True
        while first or left:
            room = BLOCK - len(log) % BLOCK - FRAGMENT.size
            if room < 0:
                log += bytes(room + FRAGMENT.size)
                continue
            piece, left = left[:room], left[room:]
            kind = (WHOLE if not left else FIRST) if first else (MIDDLE if left else LAST)
            body = bytes([kind]) + piece
            log += struct.pack("<IHB", zlib.crc32(body), len(piece), kind) + piece
            first = False
    file.parent.mkdir(parents=True)
    file.write_bytes(log)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("_step", '"NaN"'), ("_step", "Infinity"), ("_step", "null"), ("_step", "[1]"), ("_step", "-5"),
        ("_step", "1e300"), ("_runtime", "NaN"), ("_runtime", "null"), ("acc", "1" + "0" * 400),
        ("acc", "1" * 5000), ("acc", "[" * 100_000), ("acc", '{"a":' * 100_000 + "1" + "}" * 100_000),
    ],
    ids=lambda value: value[:12],
)  # fmt: skip
def test_a_value_that_is_none_is_named_and_harms_no_other_run(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / "wandb" / "run-1-bad" / "run-bad.wandb"
    write_run(file, "bad", values(acc="0.5", _step="0"), values(**{"acc": "0.5", "_step": "1", name: text}))
    write_run(tmp_path / "wandb" / "run-2-good" / "run-good.wandb", "good", values(acc="0.5", _step="0"))
    with pytest.raises(NotImported, match="it is broken"):
        recorded_at(f"wandb:{file}", ())
    [good] = recorded_at(f"wandb:{tmp_path}", ["full 2-good"])
    assert good.series["acc"][-1].value == 0.5


@pytest.mark.parametrize("deep", ["[" * 100_000, "[" * 900 + "]" * 900])
def test_a_configuration_that_is_nested_too_deep_harms_no_other_run(tmp_path: Path, deep: str) -> None:
    write_run(tmp_path / "run-1-bad" / "run-bad.wandb", "bad", values(acc="0.5"), seed=deep)
    write_run(tmp_path / "run-2-good" / "run-good.wandb", "good", values(acc="0.5"))
    assert len(recorded_at(f"wandb:{tmp_path}", ["full", "full 2-good"])) == 1


def test_runs_of_one_name_in_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for machine in ("a", "b"):
        file = tmp_path / machine / "wandb" / "run-20260101-id1" / "run-id1.wandb"
        write_run(file, machine, values(acc="0.5"), values(acc="0.75"), seed=str(ord(machine)))
    runs = recorded_at(f"wandb:{tmp_path}", ())
    assert [run.name for run in runs] == [f"full {machine}/wandb/run-20260101-id1 id1" for machine in "ab"]
    assert [run.parameters["seed"] for run in runs] == ["97", "98"]
    assert [[point.value for point in run.series["acc"]] for run in runs] == [[0.75], [0.75]], (
        "no curve: the last value"
    )
    with pytest.raises(NotImported, match="two runs there have the name full id"):
        distinct("wandb", [("full", "id", 1), ("full", "id", 2)])
