"""The verbs about models: tune, export, pack and models. Heavy imports stand inside."""

from pathlib import Path
from typing import Annotated

import typer


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


def tune(
    model: Annotated[str, typer.Argument(help="Model folder or run folder; it is rewritten.")],
    data: Annotated[list[Path], typer.Option(help="A store; several weigh alike.")],
    split: Annotated[str, typer.Option(help="Split to tune on.")] = "val",
    objective: Annotated[str, typer.Option(help="f1 (at IoU 0.5) or mean_ap.")] = "f1",
    zoom: Annotated[
        list[float] | None,
        typer.Option(help="Scale at which the network sees images; repeat to try several."),
    ] = None,
    turns: Annotated[
        int,
        typer.Option(help="Turned and mirrored copies of each image to tune on, 1 to 8."),
    ] = 1,
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
            turns=turns,
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


def models() -> None:
    """List the models that ship with cellshed: size, licence, what for, scores."""
    from cellshed.console import say
    from cellshed.model.folder import describe_shipped

    for line in describe_shipped():
        say(line)


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
    from cellshed.console import bar, say, training_display
    from cellshed.studies.packing import Display, make_model

    display = Display(say, training_display, bar)
    packed = make_model(name, recipes, data, work, out, run=run, display=display)
    say(f"{packed}: packed; its card is {packed / 'card.md'}")
