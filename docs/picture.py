"""Draw docs/cells.png: fields from cellshed's generator, and the cells that a model finds."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import cellshed as cs
from cellshed.data.synthetic import synthetic_field
from cellshed.report.overlay import draw, stretch

FIELDS = ((2031, "plump", 0.25), (2032, "colony", 0.35))
"""Seed, morphology and density."""
SHAPE = (300, 480)
GAP = 6


def main(model: str = "phase") -> None:
    """Write the picture: each field on the left, its cells outlined on the right."""
    segmenter = cs.load_model(model)
    rows = []
    for seed, morphology, density in FIELDS:
        image, _ = synthetic_field(seed, morphology, SHAPE, density)
        halves = stretch(image), draw(image, segmenter.segment(image))
        gap = np.full((SHAPE[0], GAP, 3), 255, np.uint8)
        rows.append(np.concatenate([halves[0], gap, halves[1]], axis=1))
    between = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    picture = np.concatenate([rows[0], between, rows[1]])
    Image.fromarray(picture).save(Path(__file__).parent / "cells.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
