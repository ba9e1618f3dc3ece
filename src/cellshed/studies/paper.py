"""The paper's studies: each is a function that returns runs. To add one: an entry in STUDIES.

"The paper" is Yi, Da and Bai, Optimization of Mesmer using the LIVECell dataset. The settings
that a study doesn't vary come from its preset, `reference` unless told otherwise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cellshed.studies.plan import Context, Part, Run

COMBINATIONS = (
    ("inner_distance", "pixelwise"),
    ("outer_distance", "pixelwise"),
    ("inner_distance", "outer_distance", "pixelwise"),
    ("inner_distance", "foreground"),
    ("outer_distance", "foreground"),
    ("inner_distance", "foreground", "pixelwise"),
    ("inner_distance", "outer_distance", "foreground", "pixelwise"),
    ("pixelwise",),
)
"""Heads of Fig. 5, the paper's choice first; the last has connected interiors as markers."""
BACKBONES = ("resnet50", "densenet201", "efficientnet_b7", "efficientnet_lite0", "featurenet")
"""Those of Table 1, then small ones."""
STRIDES = {"P1": 2, "P2": 4, "P3": 8}
LEVELS = (
    (("C3", "C4", "C5"), ("P3", "P4", "P5", "P6", "P7"), "finest"),
    (("C3", "C4", "C5"), ("P3", "P4", "P5", "P6", "P7"), "sum"),
    (("C3", "C4", "C5"), ("P3", "P4", "P5"), "sum"),
    (("C2", "C3", "C4", "C5"), ("P2", "P3", "P4", "P5"), "finest"),
    (("C2", "C3", "C4", "C5"), ("P2", "P3", "P4", "P5"), "sum"),
    (("C2", "C3", "C4", "C5"), ("P2", "P3", "P4", "P5", "P6", "P7"), "sum"),
    (("C1", "C2", "C3", "C4", "C5"), ("P1", "P2", "P3", "P4", "P5"), "sum"),
    (("C2", "C3", "C4"), ("P2", "P3", "P4"), "sum"),
    (("C2", "C3"), ("P2", "P3"), "sum"),
)
"""Backbone levels, pyramid levels and fusion; the reference first."""
EVERY = (50, 25, 20, 4, 2, 1)
"""Every n-th training image: 2, 4, 5, 25, 50 and 100 % of them."""


@dataclass(frozen=True)
class Study:
    """An experiment of many runs."""

    title: str
    source: str
    """Where in the paper it is."""
    plan: Callable[[Context], Iterator[Run]]
    factor: str
    """Name of what it varies, among the factors of its runs."""
    seeds: int
    """Repetitions of each run, unless told otherwise."""
    fraction: float
    """Share of the images of each split, unless told otherwise."""


def transforms(context: Context) -> Iterator[Run]:
    """Combinations of heads; each seed draws other images to train, choose and test with."""
    for seed in range(context.seeds):
        part = Part(context.fraction, seed=seed)
        for heads in COMBINATIONS:
            group = "+".join(heads)
            yield Run(
                name=f"{group}-{seed}",
                group=group,
                seed=seed,
                factors={"heads": group},
                changes=(f"model.heads=[{', '.join(heads)}]",),
                train=part,
                val=part,
                test=part,
            )


def cell_types(context: Context) -> Iterator[Run]:
    """Return one model for each cell type, and score it on every type."""
    for seed in range(context.seeds):
        everything = Part(context.fraction, seed=seed)
        for cell_type in context.cell_types:
            own = Part(context.fraction, cell_types=(cell_type,), seed=seed)
            yield Run(
                name=f"{cell_type}-{seed}",
                group=cell_type,
                seed=seed,
                factors={"trained_on": cell_type},
                train=own,
                val=own,
                test=everything,
            )


def backbones(context: Context) -> Iterator[Run]:
    """Networks of Table 1 and small ones, all with the paper's two heads."""
    # The weights of a file or package are those of one backbone: without them all start alike.
    pretrained = context.config.model.pretrained
    alike = () if pretrained in ("none", "hub") else ("model.pretrained=none",)
    alone = () if pretrained == "none" else ("model.pretrained=none",)
    for seed in range(context.seeds):
        part = Part(context.fraction, seed=seed)
        for name in BACKBONES:
            yield Run(
                name=f"{name}-{seed}",
                group=name,
                seed=seed,
                factors={"backbone": name},
                changes=(f"model.backbone={name}", *(alone if name == "featurenet" else alike)),
                train=part,
                val=part,
                test=part,
            )


def dataset_size(context: Context) -> Iterator[Run]:
    """Parts of the training images, with as many steps each, chosen and tested by the same."""
    training = context.config.training
    images = sum(r.split in ("train", "all") for s in context.stores for r in s.records)
    steps = max(1, -(-images // training.batch_size))
    changes = () if training.steps_per_epoch else (f"training.steps_per_epoch={steps}",)
    rest = Part(context.fraction)
    for seed in range(context.seeds):
        for every in EVERY:
            percent = 100 / every
            yield Run(
                name=f"{percent:g}percent-{seed}",
                group=f"{percent:g} %",
                seed=seed,
                factors={"percent": percent},
                changes=changes,
                train=Part(every=every, seed=seed),
                val=rest,
                test=rest,
            )


def levels(context: Context) -> Iterator[Run]:
    """Backbone levels, pyramid levels, fusion, and with them the finest stride."""
    for seed in range(context.seeds):
        part = Part(context.fraction, seed=seed)
        for taps, pyramid, fusion in LEVELS:
            group = f"{_span(taps)} {_span(pyramid)} {fusion}"
            yield Run(
                name=f"{group.replace(' ', '_')}-{seed}",
                group=group,
                seed=seed,
                factors={
                    "levels": group,
                    "backbone_levels": _span(taps),
                    "pyramid_levels": _span(pyramid),
                    "fusion": fusion,
                    "finest_stride": STRIDES[pyramid[0]],
                },
                changes=(
                    f"model.backbone_levels=[{', '.join(taps)}]",
                    f"model.pyramid_levels=[{', '.join(pyramid)}]",
                    f"model.fusion={fusion}",
                ),
                train=part,
                val=part,
                test=part,
            )


STUDIES: dict[str, Study] = {
    "transforms": Study(
        "Combinations of heads", "section 5.3, Fig. 5", transforms, "heads", 5, 0.05
    ),
    "cell-types": Study(
        "One model for each cell type", "section 5.4, Fig. 6", cell_types, "trained_on", 1, 0.5
    ),
    "backbones": Study("Backbones", "section 5.5, Table 1, Fig. 7", backbones, "backbone", 1, 0.05),
    "dataset-size": Study(
        "Size of the training set", "section 4.2", dataset_size, "percent", 3, 1.0
    ),
    "levels": Study("Pyramid levels", "section 6", levels, "levels", 1, 0.05),
}
"""Name on the command line -> study. `search` plans as it goes and stands in searching.py."""


def _span(levels: tuple[str, ...]) -> str:
    return f"{levels[0]}-{levels[-1]}"
