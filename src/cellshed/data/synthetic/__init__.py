"""Fields of cells as phase contrast shows them, drawn at random with their exact labels.

place cells -> paint labels and depths -> phase -> what the microscope shows of it.
"""

from cellshed.data.synthetic.field import synthetic_field
from cellshed.data.synthetic.folder import write_synthetic
from cellshed.data.synthetic.morphology import MORPHOLOGIES

__all__ = ["MORPHOLOGIES", "synthetic_field", "write_synthetic"]
