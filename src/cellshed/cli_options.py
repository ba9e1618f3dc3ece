"""Options that several verbs have."""

from typing import Annotated

import typer

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
    typer.Option(
        help="Mean diameter of your cells in pixels, where large ones come in pieces or small "
        "ones are missed; auto: try five scales, slow."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[
    str, typer.Option(help="Of the network's arithmetic: fp32, bf16, or auto, the faster here.")
]
Fast = Annotated[
    bool,
    typer.Option("--fast", help="Show images at one scale: faster, worse where sizes differ."),
]
Engine = Annotated[str, typer.Option(help="auto, torch, onnx or openvino.")]
