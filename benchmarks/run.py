"""Times every part beside a plain version of the same algorithm, and draws how cost grows.

`make bench` runs it: one table with ratios, bench/results.json, and bench/scaling.png.
Times are of one thread; run it on a machine that does nothing else.
"""

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PARTS = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
COLUMNS = ("part", "size", "cells", "ours ms", "plain ms", "ratio", "plain version", "bound ms", "")


def main() -> None:
    """Run the parts that are named, all by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--no-scaling", action="store_true", help="leave the plot out")
    chosen = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # read when the parts below import numpy, numba and torch
    sys.path.insert(0, str(HERE))
    chosen.out.mkdir(exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}\n")
    rows = [row for part in chosen.parts for row in importlib.import_module(f"bench_{part}").rows()]
    print_table(rows)
    results: dict[str, Any] = {"rows": rows}
    if not chosen.no_scaling:
        results["scaling"] = importlib.import_module("bench_watershed").scaling()
        draw_scaling(results["scaling"], chosen.out / "scaling.png")
    (chosen.out / "results.json").write_text(json.dumps(results, indent=1))


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print one line a row, columns aligned."""
    lines = [COLUMNS, *map(_cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    ours, plain, bound = row["ours_ms"], row["plain_ms"], row["bound_ms"]
    return (
        row["part"],
        row["size"],
        "" if row["cells"] is None else str(row["cells"]),
        f"{ours:.2f}",
        "" if plain is None else f"{plain:.1f}",
        "" if plain is None else f"{plain / ours:.1f}x",
        row["plain"] or "",
        "" if bound is None else f"{bound:g}",
        "" if bound is None else ("ok" if ours <= bound else "over"),
    )


def draw_scaling(points: list[dict[str, Any]], path: Path) -> None:
    """Draw the watershed's time over pixels and over cells, both on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, name, other in zip(axes, ("pixels", "cells"), ("cells", "pixels"), strict=True):
        for value in sorted({point[other] for point in points}):
            line = sorted((p[name], p["ms"]) for p in points if p[other] == value)
            if len(line) > 1:
                axis.loglog(*zip(*line, strict=True), marker="o", label=f"{value:,} {other}")
        axis.set_xlabel(name)
        axis.set_ylabel("deep_watershed, ms")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
