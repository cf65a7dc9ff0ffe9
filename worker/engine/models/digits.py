"""A small vision transformer, trained on the digits 0 to 4: the base model of the sample of image classification.

No package carries a small vision transformer, so the worker trains one, once: 4 blocks of width 64 on 12 × 12 pixels,
137,000 parameters, with a fixed seed on one thread. It is a base model to compare methods on, and of no other use.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from transformers import ViTConfig, ViTForImageClassification

from app.samples.digits import DIGITS, SHEET, SIDE, Digit, digits
from worker.engine.data.images import Normalization, load_image_processor, resized

SIZE, PATCH, WIDTH, BLOCKS, HEADS = SHEET, 3, 64, 4, 4
EPOCHS, BATCH, RATE, SHIFT = 40, 64, 3e-3, 2
"""Training: AdamW with a linear decay; every image of a batch stands elsewhere on its sheet, by up to `SHIFT` pixels
from the middle."""
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": SIZE, "width": SIZE},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def train(directory: Path) -> None:
    """Write the model and its image processor into a directory, which appears complete. Raises Unavailable without the
    images. Takes about half a minute of one core."""
    part = directory.with_name(f"{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    (part / "preprocessor_config.json").write_text(json.dumps(PROCESSOR, indent=2), encoding="utf-8")
    old = [digit for digit in digits() if digit.name not in DIGITS]
    _trained(_pixels(part, old), torch.tensor([int(digit.name) for digit in old])).vit.save_pretrained(part)
    part.rename(directory)


def _pixels(folder: Path, images: list[Digit]) -> torch.Tensor:
    """In the middle of the sheet, as the processor in a folder makes them: float32 [N, 3, SIZE, SIZE]."""
    processor = load_image_processor(folder)
    middle = (SHEET - SIDE) // 2
    sheets = [Image.frombytes("RGB", (SHEET, SHEET), image.on_sheet(middle, middle)) for image in images]
    read = resized(processor, sheets)
    return Normalization.of(processor).of_pixels(torch.from_numpy(np.stack(read)))


def _trained(pixels: torch.Tensor, labels: torch.Tensor) -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums depend on the number of threads
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_labels": int(labels.max()) + 1}
    model: Any = ViTForImageClassification(
        ViTConfig(
            image_size=SIZE,
            patch_size=PATCH,
            hidden_size=WIDTH,
            num_hidden_layers=BLOCKS,
            num_attention_heads=HEADS,
            intermediate_size=2 * WIDTH,
            initializer_range=0.1,  # with 0.02 a model as narrow as this learns little
            **sizes,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    steps = EPOCHS * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 20) * (1 - step / steps))
    for _epoch in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(labels)), BATCH):
            shifts = torch.randint(-SHIFT, SHIFT + 1, (len(rows), 2)).tolist()
            moved = [torch.roll(pixels[row], shift, (1, 2)) for row, shift in zip(rows, shifts, strict=True)]
            logits = model(pixel_values=torch.stack(moved)).logits
            loss: Any = functional.cross_entropy(logits, labels[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    torch.set_num_threads(threads)
    return model
