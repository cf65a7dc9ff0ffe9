"""Classification of images: pixels as the image processor makes them, the head's loss, and whole attempts."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, ConvNextConfig, ResNetConfig, SwinConfig, ViTConfig

from app.domain.data.dataset import ImageRow, StoredImage
from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec, MethodSpec, PromptSpec
from app.domain.runs.job import TrainJob
from app.store.files.rows_file import RowsFile
from tests.support.tiny import images as tiny_images
from tests.support.tiny import texts as tiny
from worker.engine.data.batches.batches import read
from worker.engine.data.images import Normalization, check_shape, opened, pngs, sequence_length, shape_of
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.prefix.frozen_prefix import frozen_prefix
from worker.engine.models.inspect import facts_of, inspect
from worker.engine.models.load import harmless
from worker.engine.tasks import image_classification as task


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_images.save_model(tmp_path_factory.mktemp("model"))


def encoded(folder: Path, rows: list[ImageRow], **settings: Any) -> tuple[task.Images, tiny.Recorder]:
    sink, processor = tiny.Recorder(), tiny_images.processor(folder / "processor", **settings)
    job = tiny_images.job(folder / "job", folder)
    return task.encode(rows, "test", processor, tiny_images.model(), job, sink), sink


def test_a_batch_is_what_the_image_processor_makes(tmp_path: Path) -> None:
    rows = tiny_images.rows(0, 0, 3)
    examples, sink = encoded(tmp_path, rows)
    batch = task.collate(examples, [2, 0], 0)
    processor = tiny_images.processor(tmp_path / "processor")
    wanted = processor(images=[opened(rows[i].image) for i in (2, 0)], return_tensors="pt")["pixel_values"]
    assert batch.inputs["pixel_values"].shape == (2, 3, 16, 16)
    torch.testing.assert_close(batch.inputs["pixel_values"], wanted, rtol=1e-5, atol=1e-5)
    assert batch.labels.tolist() == [2, 0] and batch.tokens == 2 * 17 and batch.real.shape == (2, 17)
    assert sink.logs == [
        "3 of the 3 images in the test split are smaller than the model's input: its image processor resized them up "
        "from 12 × 10 to 16 × 16 pixels (width × height)."
    ]
    assert all(isinstance(row, ImageRow) and row.image == b"" for row in examples.rows)


def test_images_keep_the_models_size_and_the_settings_of_the_processor(tmp_path: Path) -> None:
    rows = [ImageRow("a", "test", tiny_images.png_of(*tiny_images.picture(1, 16, 16)), 1)]
    examples, sink = encoded(tmp_path, rows)
    own = np.frombuffer(tiny_images.picture(1, 16, 16)[2], dtype=np.uint8).reshape(16, 16, 3)
    assert np.array_equal(examples.pixels[0], own.transpose(2, 0, 1)) and not sink.logs
    pixels = torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)
    both = Normalization.of(tiny_images.processor(tmp_path)).of_pixels(pixels)
    torch.testing.assert_close(both[0, :, 0, 0], torch.tensor([(0.2 - 0.5) / 0.5, (0.2 - 0.4) / 0.25, -0.5]))
    plain = tiny_images.processor(tmp_path, do_normalize=False)
    torch.testing.assert_close(Normalization.of(plain).of_pixels(pixels), torch.full((1, 3, 2, 2), 0.2))


def test_the_log_says_what_became_of_smaller_images(tmp_path: Path) -> None:
    sizes = [(12, 10), (8, 20), (16, 16)]
    rows = [
        ImageRow(str(i), "test", tiny_images.png_of(*tiny_images.picture(i, *size)), 1) for i, size in enumerate(sizes)
    ]
    [log] = encoded(tmp_path, rows)[1].logs
    assert log.startswith("2 of the 3 images") and "resized them up from between 8 × 20 and 12 × 10 to 16 × 16" in log
    settings = {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 16, "width": 16}}
    pil = settings | {"image_processor_type": "CLIPImageProcessor"}
    examples, sink = encoded(tmp_path / "cropped", rows[:1], **pil)
    assert "its image processor padded them from 12 × 10 to 16 × 16" in sink.logs[0]
    assert not examples.pixels[0][:, 0].any(), "black above it"


def test_stored_images_become_the_same_batches(tmp_path: Path) -> None:
    rows = tiny_images.rows(150, 20, 70)
    mixed = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    with RowsFile(tmp_path / "rows.parquet", "labelled-images", tiny_images.LABELS) as file:
        for start in range(0, len(mixed), 90):
            file.write(mixed[start : start + 90])
    stored = read(str(tmp_path / "rows.parquet"), "labelled-images")
    for split, part in stored.items():
        own = [row for row in mixed if row.split == split]
        assert all(isinstance(row, ImageRow) and isinstance(row.image, StoredImage) for row in part)
        batches = [
            task.collate(encoded(tmp_path / split / kind, given)[0], range(len(own)), 0)
            for kind, given in (("file", part), ("memory", own))
        ]
        for name in ("labels", "real"):
            assert torch.equal(*(getattr(batch, name) for batch in batches))
        assert torch.equal(*(batch.inputs["pixel_values"] for batch in batches))
    backwards = list(reversed(stored["train"]))
    assert [png for _place, png in sorted(pngs(backwards))] == [
        row.image for row in reversed([row for row in mixed if row.split == "train"])
    ]
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunFailed, match="The dataset's file could not be read"):
        list(pngs(backwards))


def test_few_stored_images_are_in_memory_at_a_time(tmp_path: Path) -> None:
    with RowsFile(tmp_path / "rows.parquet", "labelled-images", ["a"]) as file:
        for start in range(0, 400, 10):
            file.write([ImageRow(str(start + i), "train", os.urandom(100_000), 0) for i in range(10)])
    rows = read(str(tmp_path / "rows.parquet"), "labelled-images", needed=())["train"]
    before = pa.total_allocated_bytes()
    used = [pa.total_allocated_bytes() - before for _place, _png in pngs(rows)]
    assert len(used) == 400 and max(used) < 20_000_000, "of 40 MB"


def test_losses_are_cross_entropies_of_the_heads_logits(tmp_path: Path) -> None:
    model = tiny_images.model()
    examples, _sink = encoded(tmp_path, tiny_images.rows(0, 0, 4))
    batch = task.collate(examples, [0, 1, 2, 3], 0)
    with torch.no_grad():
        losses = task.losses(model, batch)
        logits = model(pixel_values=batch.inputs["pixel_values"]).logits
        torch.testing.assert_close(losses, functional.cross_entropy(logits, batch.labels, reduction="none"))
        torch.testing.assert_close(task.loss(model, batch), losses.sum())


@pytest.mark.parametrize("row", [
    ImageRow("a", "test", b"", 0), ImageRow("a", "test", b"x", 3),
])  # fmt: skip
def test_a_row_without_an_image_or_with_an_unknown_label_is_refused(row: ImageRow, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="has no image, or a label outside 0 to 2"):
        encoded(tmp_path, [row])


def test_damaged_images_and_processors_of_another_size_are_refused(tmp_path: Path) -> None:
    [row] = tiny_images.rows(0, 0, 1)
    with pytest.raises(RunFailed, match="An image of the dataset is damaged"):
        encoded(tmp_path, [row._replace(image=row.image[:60])])
    with pytest.raises(RunFailed, match="does not bring all images to one size"):
        shape_of(tiny_images.processor(tmp_path, do_resize=False))
    shape = shape_of(tiny_images.processor(tmp_path, size={"height": 24, "width": 24}))
    with pytest.raises(RunFailed, match="makes images of 24 × 24 pixels, and the model reads 16 × 16"):
        check_shape(shape, tiny_images.config())
    check_shape(shape, AutoConfig.for_model("dinov2", image_size=16, patch_size=4))


@pytest.mark.parametrize(
    ("kind", "tokens"), [("vit", 17), ("deit", 18), ("dinov2", 17), ("dinov2_with_registers", 21), ("beit", 17)]
)
def test_the_sequence_has_patches_and_special_tokens(kind: str, tokens: int) -> None:
    sizes = {"image_size": 16, "patch_size": 4, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = harmless(AutoConfig.for_model(kind, **sizes))
    model = task.AUTO.from_config(config)
    assert sequence_length(model, (3, 16, 16)) == tokens
    seen: list[int] = []
    hook = (
        frozen_prefix(model.requires_grad_(False))
        .blocks[0]
        .register_forward_hook(
            lambda _block, _args, output: seen.append((output[0] if isinstance(output, tuple) else output).shape[1])
        )
    )
    model(pixel_values=torch.zeros(1, 3, 16, 16))
    hook.remove()
    assert seen == [tokens]
    assert facts_of(config).tasks.keys() == {"image-classification"}


@pytest.mark.parametrize("config", [SwinConfig(), ConvNextConfig(), ResNetConfig()])
def test_models_that_are_no_plain_vision_transformer_are_refused(config: Any) -> None:
    with pytest.raises(RunFailed, match="is not a plain vision transformer"):
        facts_of(config)


def test_a_model_of_grey_images_is_refused() -> None:
    assert "with 1 channels does not read RGB" in str(task.incompatibility(ViTConfig(num_channels=1)))


def test_an_inspection_finds_head_blocks_and_layers(base: Path) -> None:
    facts = inspect(str(base))
    model = facts.tasks["image-classification"]
    assert (model.head, model.blocks, facts.max_positions) == (["classifier"], ["vit.layers.0", "vit.layers.1"], None)
    assert model.behind == ["vit.layernorm", "classifier"]
    assert facts.trainable_parameters(HeadOnlySpec(), "image-classification", 3) == 3 * 32 + 3
    refused = facts.incompatibility(PromptSpec(), "image-classification")
    assert refused is not None and "does not support the task image-classification" in refused.message


@pytest.mark.parametrize("method", [FullSpec(), LoraSpec(r=4), HeadOnlySpec()], ids=lambda method: method.kind)
def test_every_kind_of_method_learns_colours(method: MethodSpec, base: Path, tmp_path: Path) -> None:
    job = tiny_images.job(tmp_path, base, method)
    result = Attempt(job, tiny.Recorder()).run()
    [before] = [e for e in result.evaluations if e.subject == "base"]
    after = [e for e in result.evaluations if e.split == "test"][-1]
    assert after.metrics["accuracy"] == 1 and after.loss < before.loss / 2
    assert result.confusion is not None and not result.data.truncated_rows
    table = pq.read_table(Path(job.output) / "predictions.parquet")
    assert "image" not in table.column_names and table.column("label").to_pylist() == [i % 3 for i in range(84, 108)]
    if isinstance(method, LoraSpec):
        adapter = json.loads((Path(job.output) / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
        assert adapter["task_type"] is None and adapter["modules_to_save"] == ["classifier"]


def test_accumulated_batches_train_as_one_batch(base: Path, tmp_path: Path) -> None:
    losses = []
    for size, accumulated in ((60, 1), (15, 4)):
        changes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated}
        job = tiny_images.job(tmp_path / str(size), base, FullSpec(), tiny_images.FAST.model_copy(update=changes))
        sink = tiny.Recorder()
        result = Attempt(job, sink).run()
        losses.append([step.loss for step in sink.seen] + [e.loss for e in result.evaluations])
    assert len(losses[0]) > 4 and losses[1] == pytest.approx(losses[0], rel=1e-4), "every step sees all 60 rows"


def cached(job: TrainJob, base: Path, folder: Path) -> TrainJob:
    fingerprint = inspect(str(base)).revision
    return job.model_copy(update={"cache": str(folder), "cache_bytes": 1 << 30, "model_fingerprint": fingerprint})


def test_frozen_blocks_are_read_from_the_cache_with_the_same_loss(base: Path, tmp_path: Path) -> None:
    losses = []
    for place, use in enumerate((False, True, True)):
        training = tiny_images.FAST.model_copy(update={"cache_frozen_prefix": use})
        job = tiny_images.job(tmp_path / str(place), base, HeadOnlySpec(), training)
        sink = tiny.Recorder()
        result = Attempt(cached(job, base, tmp_path / "cache"), sink).run()
        losses.append([e.loss for e in result.evaluations])
        assert use == any("The lowest 2 blocks are frozen: their activations are read" in line for line in sink.logs)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and losses[1] == losses[2]
