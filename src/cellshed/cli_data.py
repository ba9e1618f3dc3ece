"""The verbs about data: download, synthetic and prepare. Heavy imports stand inside."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from cellshed.cli_options import CellTypes, Splits, Subset


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
    margin: Annotated[
        int, typer.Option(help="Frame in pixels where ground without a label isn't annotated.")
    ] = 0,
    not_annotated: Annotated[
        int | None, typer.Option(help="Label of ground that nobody annotated, beside -1.")
    ] = None,
    val_share: Annotated[
        float, typer.Option(help="Share of images without a split that become val, by --seed.")
    ] = 0.0,
    test_share: Annotated[float, typer.Option(help="Likewise test.")] = 0.0,
    channel: Annotated[
        int | None, typer.Option(help="The one channel to keep, counted from 0.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images of a COCO file.")
    ] = None,
    export_npz: Annotated[bool, typer.Option(help="Write the paper's npz files too.")] = False,
) -> None:
    """Turn images and annotations into a store that training and scoring read."""
    from cellshed.console import bar, say, warn
    from cellshed.data.prepare import prepare as make
    from cellshed.spelling import counted

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
            margin=margin,
            not_annotated=not_annotated,
            val_share=val_share,
            test_share=test_share,
            channel=channel,
            images=images,
            export_npz=export_npz,
            progress=progress,
        )
    cells = sum(record.n_cells for record in store.records)
    by_split = Counter(record.split for record in store.records)
    splits = ", ".join(f"{n} {'of no split' if s == 'all' else s}" for s, n in by_split.items())
    manifest = out / "manifest.json"
    pixels = sum(record.height * record.width for record in store.records)
    unknown = sum(store.manifest["not_annotated_pixels"].values()) / pixels
    not_known = f", {unknown:.1%} of the ground not annotated" if unknown else ""
    say(
        f"{out}: {counted(len(store), 'image')} ({splits}), {counted(cells, 'cell')}{not_known}; "
        f"details in {manifest}"
    )
    if problems := store.manifest["problems"]:
        image, reason = problems[0]["image"], problems[0]["reason"]
        first = f"{image}: {reason}" if image else reason
        number = counted(len(problems), "problem")
        warn(f"{manifest} lists {number}; the first: {first}")
