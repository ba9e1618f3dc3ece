"""Segmentations against the truth: scores of each image, each cell type and all together."""

from cellshed.evaluation.results import compare, headline
from cellshed.evaluation.run import evaluate

__all__ = ["compare", "evaluate", "headline"]
