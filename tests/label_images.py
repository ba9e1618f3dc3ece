"""Label images that tests of targets share."""

import numpy as np


def scattered_cells(height, width, n, seed):
    """Cells of several sizes, some touching, some cut by the frame, some labels in two pieces."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    y, x = np.ogrid[:height, :width]
    for label in rng.permutation(3 * n)[:n] + 1:
        top, left, tall, wide = rng.random(4) * (height, width, 9, 9) + (0, 0, 1, 1)
        labels[((y - top) / tall) ** 2 + ((x - left) / wide) ** 2 < 1] = label
    return labels


def placed(shape, rows, columns, label=1):
    labels = np.zeros(shape, np.int32)
    labels[rows, columns] = label
    return labels


IMAGES = {
    "empty": np.zeros((6, 9), np.int32),
    "one pixel": placed((5, 7), 2, 3),
    "one pixel in the corner": placed((5, 7), 0, 6),
    "cut by the frame": placed((8, 9), slice(0, 5), slice(4, 9), label=3),
    "two that touch": placed((9, 12), slice(2, 8), slice(1, 5))
    + placed((9, 12), slice(2, 8), slice(5, 11), label=8),
    "scattered": scattered_cells(61, 78, 40, 0),
    "dense": scattered_cells(64, 50, 150, 1),
}


def assert_close(found, expected, what=""):
    # not pytest.approx, which takes its time over each pixel
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=what)
