"""The verbs of the command line. Heavy imports stand inside the verb that needs them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import cellshed
from cellshed.cli_data import download, prepare, synthetic
from cellshed.cli_models import export, models, pack, tune
from cellshed.cli_options import (
    CellTypes,
    Device,
    Diameter,
    Engine,
    Fast,
    Overrides,
    Precision,
)
from cellshed.cli_study import study

app = typer.Typer(
    name="cellshed",
    help="Find every single cell in a microscope image.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

MANY = 10
"""Images in one go from which on it is worth telling how they would be done sooner."""
INTERRUPTED = 130
"""What typer makes of Ctrl-C, as shells do."""


def main() -> None:
    """Run the command line; what goes wrong becomes one line and an exit code."""
    from cellshed import console

    try:
        app()
    except (ValueError, OSError) as error:
        console.fail(error, 2)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            console.warn("stopped; predict, called again, goes on, and train with --resume")
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: no tracebacks for users
        console.fail(error, 1)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cellshed {cellshed.__version__}")
        raise typer.Exit


def _pixels(diameter: str | None) -> Any:
    """Return the number in a word, and other words, which are checked where they are used."""
    try:
        return None if diameter is None else float(diameter)
    except ValueError:
        return diameter


def _segmenter(
    model: str | None,
    diameter: str | None,
    device: str,
    engine: str,
    precision: str,
    changes: list[str] | None,
    fast: bool,
) -> Any:
    """Load the model that the options of predict and evaluate ask for."""
    from cellshed.predict import load_model

    segmenter = load_model(
        model, device=device, engine=engine, precision=precision, diameter=_pixels(diameter)
    )
    if fast and any(change.strip().startswith("predict.scales=") for change in changes or ()):
        raise ValueError("--fast looks at images at one scale: leave it out, or predict.scales")
    changed = segmenter.with_changes(changes or ())
    return changed.with_changes(["predict.scales=[1.0]"]) if fast else changed


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


app.command()(download)
app.command()(synthetic)
app.command()(prepare)


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a preset.")],
    data: Annotated[list[Path], typer.Option(help="A store; repeat for several.")],
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    changes: Overrides = None,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted run.")] = False,
    init: Annotated[
        str | None, typer.Option(help="Model to start from: folder, run, or a name such as phase.")
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="Model whose maps are learned beside the labels; repeat for several."),
    ] = None,
) -> None:
    """Train a network; the best one by the validation images becomes a model folder."""
    from cellshed.config import load_config
    from cellshed.console import plain_warnings, say, training_display
    from cellshed.model.folder import read_card
    from cellshed.training.initial import starting_model
    from cellshed.training.loop import train as run

    settings = load_config(config, changes or ())
    if resume and not (out / "config.yaml").is_file():
        raise ValueError(f"{out}: no run to go on with; leave out --resume, or correct --out")
    with plain_warnings(), training_display() as progress:
        best = run(
            settings,
            data,
            out,
            resume=resume,
            init=starting_model(config, init),
            teachers=teacher or (),
            progress=progress,
        )
    if _is_first_process():
        say(f"{best}: the best model, {_origin(read_card(best).scores)}")
        say(f"Next: cellshed predict IMAGES --model {out} --out DIR")


def _is_first_process() -> bool:
    """Tell whether this is the first of the processes that train together, or the only one."""
    return os.environ.get("RANK", "0") == "0"  # set by torchrun and by accelerate


def _origin(scores: Mapping[str, float]) -> str:
    """Return what a run's best model says of itself."""
    if not scores.get("epoch"):
        return "which is what it started from: no epoch made it better on the val images"
    f1 = f", val object F1 at IoU 0.5 {scores['val_f1']:.3f}" if "val_f1" in scores else ""
    return f"of epoch {scores['epoch']:.0f}{f1}"


@app.command()
def predict(
    inputs: Annotated[list[str], typer.Argument(help="Images, folders or patterns.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    model: Annotated[
        str | None, typer.Option(help="Model folder, run folder or name; default: phase.")
    ] = None,
    save: Annotated[
        str, typer.Option(help="Which of labels,overlay,coco,table.")
    ] = "labels,overlay,coco,table",
    changes: Overrides = None,
    channel: Annotated[
        int | None, typer.Option(help="The one channel to use, counted from 0.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Do again what is there already.")] = False,
    diameter: Diameter = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    fast: Fast = False,
) -> None:
    """Find the cells of images: labels, overlays, COCO and a table."""
    from cellshed.console import bar, say, warn
    from cellshed.engines.registry import choose_precision
    from cellshed.model.folder import find_model
    from cellshed.predict_files import predict_files

    segmenter = _segmenter(model, diameter, device, engine, precision, changes, fast)
    with bar("segmenting") as progress:
        summary = predict_files(
            inputs,
            out,
            model=segmenter,
            save=save.split(","),
            channel=channel,
            overwrite=overwrite,
            progress=progress,
        )
    for line in summary.warnings():
        warn(line)
    if looks := summary.looks():
        say(looks)
    say(f"{out}: {summary.text()}")
    if len(summary.done) >= MANY:
        fastest = choose_precision("auto", engine, find_model(model), device)
        if fastest != segmenter.precision:
            say("Faster on this processor: --precision auto")
    if summary.failed:
        raise typer.Exit(1)


app.command()(export)


@app.command()
def evaluate(
    truth: Annotated[Path, typer.Option(help="COCO file, store, or folder of label images.")],
    out: Annotated[Path, typer.Option(help="Folder of the scores.")],
    pred: Annotated[Path | None, typer.Option(help="Folder of label images, of any tool.")] = None,
    model: Annotated[str | None, typer.Option(help="Or a model to segment with.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images, where truth has none.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a store to score.")] = "test",
    cell_type: CellTypes = None,
    scale: Annotated[
        float, typer.Option(help="With --model: enlarge images and true cells by this factor.")
    ] = 1.0,
    changes: Overrides = None,
    diameter: Diameter = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    fast: Fast = False,
) -> None:
    """Score segmentations against the truth."""
    from cellshed.console import bar, plain_warnings, say
    from cellshed.evaluation import evaluate as run
    from cellshed.evaluation import headline

    if (pred is None) == (model is None):
        raise ValueError("give either --pred FOLDER or --model MODEL")
    of_model = (diameter, changes or None, fast, device, engine, precision)
    if pred is not None and of_model != (None, None, False, "auto", "auto", "fp32"):
        raise ValueError(
            "--set, --diameter, --device, --engine, --precision and --fast say how a --model "
            "segments; the labels of --pred are there already: leave them out"
        )
    source: Any = pred
    if model is not None:
        source = _segmenter(model, diameter, device, engine, precision, changes, fast)
    with plain_warnings(), bar("scoring") as progress:
        results = run(
            truth,
            source,
            out,
            images=images,
            split=split,
            cell_types=cell_type,
            scale=scale,
            progress=progress,
        )
    for line in headline(results):
        say(line)


app.command()(tune)


app.command()(study)


app.command()(models)


app.command()(pack)


@app.command()
def report(
    inputs: Annotated[list[Path], typer.Argument(help="Run folders and results of evaluate.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
) -> None:
    """Write one HTML page with curves, scores, pictures and mistakes; it works offline."""
    from cellshed.console import say
    from cellshed.report.html import report as write

    write(inputs, out)
    say(f"{out}: written")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="Time to train for.")] = 2.0,
    seed: int = 0,
) -> None:
    """Run the whole pipeline on drawn images, and report."""
    from cellshed.demo import run_demo

    run_demo(out, minutes=minutes, seed=seed)


if __name__ == "__main__":
    main()
