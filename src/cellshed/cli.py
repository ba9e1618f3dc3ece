"""The verbs of the command line. Heavy imports stand inside the verb that needs them."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import cellshed
from cellshed.cli_study import study

app = typer.Typer(
    name="cellshed",
    help="Find every single cell in a microscope image.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Splits = Annotated[
    list[str] | None, typer.Option("--split", help="train, val or test; repeat for several.")
]
CellTypes = Annotated[
    list[str] | None,
    typer.Option("--cell-type", help="Only this cell type; repeat for several."),
]
Subset = Annotated[
    int | None,
    typer.Option(help="Percent of the images, every n-th of them: 2, 4, 5, 25, 50 or 100."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change a setting; repeat for several."),
]
Diameter = Annotated[
    str | None,
    typer.Option(help="Mean diameter of your cells in pixels; auto: try five scales, slow."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Engine = Annotated[str, typer.Option(help="auto, torch, onnx or openvino.")]


def main() -> None:
    """Run the command line; what goes wrong becomes one line and an exit code."""
    from cellshed import console

    try:
        app()
    except (ValueError, OSError) as error:
        console.fail(error, 2)
    except KeyboardInterrupt:
        sys.exit(130)
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


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


@app.command()
def download(
    to: Annotated[Path, typer.Option(help="Folder to fill; what is there already is kept.")],
    split: Splits = None,
    cell_type: CellTypes = None,
    subset: Subset = None,
    base_url: Annotated[
        str | None, typer.Option(help="A mirror: http(s)://, file:// or s3:// address.")
    ] = None,
) -> None:
    """Fetch LIVECell, or the part asked for, from its public bucket."""
    from cellshed.console import bar, say
    from cellshed.data.download import BASE_URL
    from cellshed.data.download import download as fetch

    with bar("downloading", unit="bytes") as progress:
        fetch(
            to,
            splits=split,
            cell_types=cell_type,
            subset=subset,
            base_url=base_url or BASE_URL,
            progress=progress,
        )
    say(f"{to}: complete. Next: cellshed prepare {to} --out STORE")


@app.command()
def synthetic(
    out: Annotated[Path, typer.Option(help="Folder to write, laid out as LIVECell.")],
    images: Annotated[int, typer.Option(help="Number of images.", min=3)] = 24,
    seed: int = 0,
) -> None:
    """Draw phase-contrast-like images with exact labels."""
    from cellshed.console import bar, say
    from cellshed.data.synthetic import write_synthetic

    with bar("drawing") as progress:
        write_synthetic(out, images=images, seed=seed, progress=progress)
    say(f"{out}: {images} images. Next: cellshed prepare {out} --out STORE")


@app.command()
def prepare(
    source: Annotated[
        list[Path], typer.Argument(help="LIVECell folders, COCO files, or images/ + labels/.")
    ],
    out: Annotated[Path, typer.Option(help="The store to write.")],
    split: Splits = None,
    cell_type: CellTypes = None,
    subset: Subset = None,
    fraction: Annotated[float, typer.Option(help="Share of the images, drawn by --seed.")] = 1.0,
    seed: int = 0,
    size: Annotated[
        int | None, typer.Option(help="Resize to a square of this side, as the paper does.")
    ] = None,
    overlap: Annotated[
        str, typer.Option(help="smaller-on-top, later-on-top or drop-covered.")
    ] = "smaller-on-top",
    val_share: Annotated[
        float, typer.Option(help="Share of images without a split that become val, by --seed.")
    ] = 0.0,
    test_share: Annotated[float, typer.Option(help="Likewise test.")] = 0.0,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images of a COCO file.")
    ] = None,
    export_npz: Annotated[bool, typer.Option(help="Write the paper's npz files too.")] = False,
) -> None:
    """Turn images and annotations into a store that training and scoring read."""
    from cellshed.console import bar, say
    from cellshed.data.prepare import prepare as make

    with bar("preparing") as progress:
        store = make(
            source,
            out,
            splits=split,
            cell_types=cell_type,
            subset=subset,
            fraction=fraction,
            seed=seed,
            size=size,
            overlap=overlap,
            val_share=val_share,
            test_share=test_share,
            images=images,
            export_npz=export_npz,
            progress=progress,
        )
    cells = sum(record.n_cells for record in store.records)
    say(f"{out}: {len(store)} images, {cells:,} cells; details in {out / 'manifest.json'}")


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
) -> None:
    """Train a network; the best one by the validation images becomes a model folder."""
    from cellshed.config import load_config
    from cellshed.console import say, training_display
    from cellshed.model.folder import find_model
    from cellshed.training.loop import train as run

    settings = load_config(config, changes or ())
    if config == "finetune" and init is None:
        init = str(find_model())
    with training_display() as progress:
        best = run(settings, data, out, resume=resume, init=init, progress=progress)
    say(f"{best}: the best model. Next: cellshed predict IMAGES --model {out} --out DIR")


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
) -> None:
    """Find the cells of images: labels, overlays, COCO and a table."""
    from cellshed.console import bar, say, warn
    from cellshed.predict import load_model
    from cellshed.predict_files import predict_files

    segmenter = load_model(model, device=device, engine=engine, diameter=_pixels(diameter))
    segmenter = segmenter.with_changes(changes or ())
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
    for path, reason in summary.failed:
        warn(f"{path}: {reason}")
    say(f"{out}: {summary.text()}")
    if summary.failed:
        raise typer.Exit(1)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="Model folder, run folder or name.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    form: Annotated[str, typer.Option("--format", help="onnx or openvino.")] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Convolutions of 8-bit integers; needs --calibrate.")
    ] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="Store or images to choose the ranges of int8 by.")
    ] = None,
) -> None:
    """Write a model as a file for other programs, or for engines other than torch."""
    from cellshed.console import bar, say
    from cellshed.export import export_model

    if int8 != (calibrate is not None):
        raise ValueError("give both --int8 and --calibrate STORE_OR_IMAGES, or neither")
    with bar("scoring") as progress:
        exported = export_model(model, out, to=form, calibrate=calibrate, progress=progress)
    say(f"{out}: written; its README.md says what goes in and comes out")
    if exported.text():
        say(exported.text())


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
    changes: Overrides = None,
    diameter: Diameter = None,
    device: Device = "auto",
) -> None:
    """Score segmentations against the truth."""
    from cellshed.console import bar, say
    from cellshed.evaluation import evaluate as run
    from cellshed.evaluation import headline

    if (pred is None) == (model is None):
        raise ValueError("give either --pred FOLDER or --model MODEL")
    source: Any = pred
    if model is not None:
        from cellshed.predict import load_model

        source = load_model(model, device=device, diameter=_pixels(diameter))
        source = source.with_changes(changes or ())
    with bar("scoring") as progress:
        results = run(
            truth,
            source,
            out,
            images=images,
            split=split,
            cell_types=cell_type,
            progress=progress,
        )
    for line in headline(results):
        say(line)


@app.command()
def tune(
    model: Annotated[str, typer.Argument(help="Model folder or run folder; it is rewritten.")],
    data: Annotated[list[Path], typer.Option(help="A store; repeat for several.")],
    split: Annotated[str, typer.Option(help="Split to tune on.")] = "val",
    objective: Annotated[str, typer.Option(help="f1 (at IoU 0.5) or mean_ap.")] = "f1",
    zoom: Annotated[
        list[float] | None,
        typer.Option(help="Scale at which the network sees images; repeat to try several."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Allow the test split.")] = False,
) -> None:
    """Choose the watershed's thresholds on validation images, and calibrate confidences."""
    from cellshed.console import bar, say
    from cellshed.studies.tuning import tune as run

    with bar("tuning") as progress:
        tuned = run(
            model,
            data,
            split=split,
            objective=objective,
            zooms=zoom or (),
            force=force,
            progress=progress,
        )
    say(f"{objective} on {split}: {tuned.before:.3f} -> {tuned.after:.3f}")
    for name, value in tuned.decode.model_dump().items():
        say(f"  {name}: {value}")
    if (meaning := tuned.calibration) is not None:
        say(
            f"confidences: expected calibration error {meaning.error_before:.3f} -> "
            f"{meaning.error_after:.3f} on {meaning.cells:,} cells"
        )


app.command()(study)


@app.command()
def models() -> None:
    """List the models that ship with cellshed: size, licence, what for, scores."""
    from cellshed.console import say
    from cellshed.model.folder import describe_shipped

    for line in describe_shipped():
        say(line)


@app.command()
def pack(
    name: Annotated[str, typer.Argument(help="Of the recipe; also the model's name.")],
    data: Annotated[Path, typer.Option(help="Folder of the image sets.")],
    work: Annotated[Path, typer.Option(help="Folder for stores, run and scores.")],
    out: Annotated[Path, typer.Option(help="Folder of models; OUT/NAME is replaced.")],
    recipes: Annotated[Path, typer.Option(help="Folder with models.yaml.")] = Path("recipes"),
    run: Annotated[
        Path | None, typer.Option(help="A run made with the recipe's settings; else train.")
    ] = None,
) -> None:
    """Make a model to ship by its recipe: prepare, train, tune, score, write its card."""
    from cellshed.console import say, training_display
    from cellshed.studies.packing import make_model

    with training_display() as progress:
        packed = make_model(name, recipes, data, work, out, run=run, say=say, progress=progress)
    say(f"{packed}: packed; its card is {packed / 'card.md'}")


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
