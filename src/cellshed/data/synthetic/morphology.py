"""Thirteen kinds of cells for synthetic fields, and random shapes drawn from them.

A cell is a body and its processes, both made of round cones ("bones"): a segment whose radius
changes evenly from one end to the other. Bones melt into one another, which gives the concave
webs between the processes of a spread cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cellshed.spelling import nearest

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Morphology:
    """How the cells of one kind look. Lengths in pixels, phases in radians."""

    cell_type: str
    """Stands in the file names of a synthetic data set."""
    radius: Range
    """Of the body."""
    elongation: Range = (1.0, 1.2)
    """Length of the body over its width."""
    arms: tuple[int, int] = (0, 0)
    """Fewest and most processes."""
    arm_length: Range = (1.0, 2.0)
    """In body radii, from the body's centre."""
    arm_base: float = 0.5
    """Radius of a process at the body, in body radii."""
    arm_tip: float = 1.2
    bipolar: float = 0.0
    """How strongly processes follow the body's axis: 0 any direction, 1 its two ends only."""
    wander: float = 0.2
    """Standard deviation of a process's bend at each of its joints, in radians."""
    branching: float = 0.0
    """Chance that a process forks at a joint."""
    bare: bool = False
    """Processes have no label, as where somebody outlined the bodies of neurons alone."""
    fillet: float = 3.0
    """Reach of the webs between bones."""
    roughness: float = 1.0
    """How far outlines stray from their smooth course."""
    coverage: Range = (0.05, 0.5)
    """Share of the field covered, sparse to crowded."""
    clustering: float = 0.5
    """Chance that a cell settles beside another."""
    spacing: float = 0.9
    """Least distance of two centres, in sums of their radii."""
    rounded: float = 0.04
    """Share of dividing cells: round, thick, with a bright rim."""
    edge_phase: float = 0.35
    """Phase that a cell's rim adds within the first few pixels."""
    dome_phase: float = 0.4
    """Phase that the thickness adds from the rim to the middle."""
    granules: float = 0.5
    """Strength of the cytoplasm's texture."""
    nucleus: float = 0.35
    """Radius of the nucleus in body radii; 0 for none to be seen."""
    glow: Range = (0.0, 0.0)
    """Grey levels that a cell gains within its rim; bright cells are thin for phase contrast."""
    debris: float = 60.0
    """Unlabelled specks per million pixels."""


MORPHOLOGIES: Mapping[str, Morphology] = {
    "round": Morphology(
        cell_type="SynRound",
        radius=(5.0, 7.0),
        roughness=0.7,
        coverage=(0.03, 0.3),
        clustering=0.8,
        spacing=0.93,
        rounded=0.0,
        edge_phase=1.0,
        dome_phase=1.8,
        granules=0.9,
        nucleus=0.0,
        debris=120,
    ),
    "plump": Morphology(
        cell_type="SynPlump",
        radius=(8.0, 15.0),
        elongation=(1.0, 1.5),
        arms=(0, 1),
        arm_length=(1.2, 1.8),
        coverage=(0.1, 0.5),
        clustering=0.7,
        spacing=0.85,
        rounded=0.35,
        edge_phase=0.5,
        dome_phase=0.5,
        granules=0.6,
    ),
    "colony": Morphology(
        cell_type="SynColony",
        radius=(11.0, 17.0),
        elongation=(1.0, 1.4),
        coverage=(0.15, 0.7),
        clustering=0.96,
        spacing=0.66,
        edge_phase=0.45,
        dome_phase=0.25,
        granules=1.0,
        nucleus=0.45,
        debris=500,
    ),
    "sheet": Morphology(
        cell_type="SynSheet",
        radius=(10.0, 18.0),
        elongation=(1.0, 1.5),
        arms=(0, 2),
        coverage=(0.75, 0.97),
        clustering=0.6,
        spacing=0.62,
        rounded=0.05,
        edge_phase=0.4,
        dome_phase=0.2,
        granules=0.9,
        nucleus=0.5,
    ),
    "flat": Morphology(
        cell_type="SynFlat",
        radius=(24.0, 42.0),
        elongation=(1.0, 1.5),
        arms=(0, 4),
        arm_length=(1.3, 2.2),
        arm_base=0.8,
        arm_tip=5.0,
        fillet=16.0,
        roughness=1.5,
        coverage=(0.2, 0.8),
        clustering=0.6,
        spacing=0.75,
        rounded=0.08,
        edge_phase=0.13,
        dome_phase=0.12,
        granules=0.35,
        nucleus=0.32,
    ),
    "angular": Morphology(
        cell_type="SynAngular",
        radius=(9.0, 16.0),
        elongation=(1.2, 2.2),
        arms=(2, 4),
        arm_length=(1.8, 5.0),
        arm_base=0.85,
        arm_tip=2.2,
        fillet=10.0,
        roughness=1.4,
        coverage=(0.12, 0.7),
        clustering=0.6,
        spacing=0.8,
        edge_phase=0.3,
        dome_phase=0.2,
        granules=0.65,
        nucleus=0.45,
    ),
    "spindle": Morphology(
        cell_type="SynSpindle",
        radius=(4.0, 7.0),
        elongation=(1.5, 3.5),
        arms=(2, 3),
        arm_length=(4.0, 14.0),
        arm_base=0.85,
        arm_tip=0.8,
        bipolar=0.9,
        wander=0.12,
        fillet=5.0,
        coverage=(0.05, 0.45),
        clustering=0.6,
        spacing=1.0,
        edge_phase=0.45,
        dome_phase=0.25,
        granules=0.45,
        nucleus=0.5,
    ),
    "branching": Morphology(
        cell_type="SynBranching",
        radius=(5.5, 9.0),
        elongation=(1.0, 1.6),
        arms=(3, 6),
        arm_length=(3.0, 10.0),
        arm_base=0.6,
        arm_tip=0.9,
        wander=0.3,
        branching=0.35,
        fillet=6.0,
        coverage=(0.05, 0.35),
        clustering=0.3,
        spacing=1.6,
        edge_phase=0.5,
        dome_phase=0.3,
        granules=0.4,
        nucleus=0.5,
        debris=200,
    ),
    "spread": Morphology(
        cell_type="SynSpread",
        radius=(9.0, 19.0),
        elongation=(1.0, 1.8),
        arms=(2, 4),
        arm_length=(2.2, 5.0),
        arm_base=1.0,
        arm_tip=3.0,
        fillet=24.0,
        roughness=1.3,
        coverage=(0.15, 0.85),
        clustering=0.75,
        spacing=0.95,
        rounded=0.08,
        edge_phase=0.2,
        dome_phase=0.15,
        granules=0.35,
        nucleus=0.5,
        debris=100,
    ),
    "mixed": Morphology(
        cell_type="SynMixed",
        radius=(9.0, 32.0),
        elongation=(1.0, 1.6),
        arms=(0, 3),
        arm_length=(1.3, 2.0),
        arm_base=1.1,
        arm_tip=2.0,
        fillet=16.0,
        roughness=1.4,
        coverage=(0.15, 0.75),
        clustering=0.94,
        spacing=0.68,
        rounded=0.1,
        edge_phase=0.25,
        dome_phase=0.15,
        granules=0.65,
        nucleus=0.4,
        debris=300,
    ),
    "confluent": Morphology(
        cell_type="SynConfluent",
        radius=(8.0, 14.0),
        elongation=(1.0, 1.9),
        arms=(0, 1),
        arm_length=(1.3, 2.0),
        fillet=6.0,
        coverage=(0.75, 1.1),
        clustering=0.3,
        spacing=0.6,
        rounded=0.015,
        edge_phase=0.2,
        dome_phase=0.08,
        granules=0.65,
        nucleus=0.48,
    ),
    "neuron": Morphology(
        cell_type="SynNeuron",
        radius=(5.5, 10.0),
        elongation=(1.0, 1.7),
        arms=(2, 6),
        arm_length=(4.0, 16.0),
        arm_base=0.5,
        arm_tip=0.7,
        wander=0.2,
        branching=0.3,
        bare=True,
        fillet=5.0,
        coverage=(0.03, 0.35),
        clustering=0.4,
        spacing=1.0,
        edge_phase=0.45,
        dome_phase=0.6,
        granules=0.6,
        nucleus=0.55,
        debris=900,
    ),
    "bright": Morphology(
        cell_type="SynBright",
        radius=(3.0, 8.0),
        elongation=(1.0, 2.6),
        arms=(0, 2),
        arm_length=(2.0, 5.0),
        arm_base=0.7,
        arm_tip=0.9,
        bipolar=0.8,
        fillet=3.0,
        roughness=0.6,
        coverage=(0.02, 0.25),
        clustering=0.5,
        spacing=1.1,
        rounded=0.0,
        edge_phase=0.1,
        dome_phase=0.05,
        granules=0.1,
        nucleus=0.0,
        glow=(40.0, 220.0),
        debris=20,
    ),
}


def known_morphology(name: str) -> Morphology:
    """Return one of `MORPHOLOGIES`.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in MORPHOLOGIES:
        raise ValueError(f"unknown morphology '{name}': {nearest(name, MORPHOLOGIES)}")
    return MORPHOLOGIES[name]
