"""Images without labels, labelled by a model, for the next model to learn from (self-training)."""

import shutil
from pathlib import Path

from cellshed.data.images import list_images, read_image, stem, write_labels
from cellshed.predict import load_model

CHANGES = (
    "predict.mirrors=true",
    "predict.scales=[1.0, 0.75, 1.3]",
    "decode.confidence_threshold=0.3",
)
"""What the model does with more care than usual."""


def label_images(model: str | Path, images: Path, out: Path, *, least: float) -> Path:
    """Write the images that a model is sure of, with the labels it finds, and return the folder.

    Args:
        model: what load_model takes.
        images: folder of images.
        out: folder to be, with train/images/ and train/labels/; it appears once it is whole.
        least: mean confidence of an image's cells below which the image is left out.

    Raises:
        ValueError: no image is left.
    """
    segmenter = load_model(model).with_changes(CHANGES)
    arriving = out.with_name(f".{out.name}.part")
    shutil.rmtree(arriving, ignore_errors=True)
    chosen = arriving / "train"
    for path in list_images([images]):
        found = segmenter.predict(read_image(path))
        if len(found.confidence) and found.confidence.mean() >= least:
            write_labels(chosen / "labels" / f"{stem(path)}.tif", found.labels)
            (chosen / "images").mkdir(exist_ok=True)
            shutil.copyfile(path, chosen / "images" / path.name)
    if not arriving.exists():
        raise ValueError(
            f"{images}: of no image are the cells sure on average by {least}; ask for less"
        )
    arriving.rename(out)
    return out
