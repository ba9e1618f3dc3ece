"""Scale: images and labels resized, and cells found at the scale that a model was trained on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from cellshed.inference import Maps
from cellshed.metrics.scores import score
from cellshed.model.folder import ModelCard
from cellshed.predict import Segmenter, load_model
from cellshed.scale import keep_present, resize_image, resize_labels, scales_for
from cellshed.settings import DecodeSettings, ModelSettings, NormalizeSettings, PredictSettings

SIDE = 128


def _discs(diameter: float) -> np.ndarray:
    """Return four discs that lie within a field of 128x128."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    labels = np.zeros((SIDE, SIDE), np.int32)
    for k, (row, column) in enumerate(((30, 30), (30, 95), (95, 30), (96, 96)), 1):
        labels[(y - row) ** 2 + (x - column) ** 2 < diameter**2 / 4] = k
    return labels


def _network(seen: list[tuple[int, ...]]) -> Callable[[np.ndarray], Maps]:
    """Return a network that takes what is bright for cells, and notes the sizes it is given."""

    def forward(image: np.ndarray) -> Maps:
        seen.append(image.shape[2:])
        inside = (image > 0).astype(np.float32)
        return {"foreground": np.concatenate([1 - inside, inside], axis=1)}

    return forward


def _surer_at(*sides: int) -> Callable[[np.ndarray], Maps]:
    """Return a network that is surer of cells in images of these heights."""

    def forward(image: np.ndarray) -> Maps:
        sure = 0.9 if image.shape[2] in sides else 0.8
        inside = np.where(image > 0, sure, 0.1).astype(np.float32)
        return {"foreground": np.concatenate([1 - inside, inside], axis=1)}

    return forward


def _segmenter(trained: float | None, seen: list[tuple[int, ...]]) -> Segmenter:
    card = ModelCard(
        name="bright",
        model=ModelSettings(heads=("foreground",)),
        normalize=NormalizeSettings(method="image"),
        decode=DecodeSettings(interior_smooth=0),
        data={} if trained is None else {"cell_diameter": trained},
    )
    return Segmenter(_network(seen), card)


def _f1(true: np.ndarray, pred: np.ndarray) -> float:
    return float(score(true, pred)["thresholds"]["0.80"]["f1"])


@pytest.mark.parametrize("diameter", [16.0, 32, np.float32(48), np.int64(32)])
def test_cells_are_shown_at_the_training_diameter_and_brought_back(diameter: float) -> None:
    seen: list[tuple[int, ...]] = []
    truth = _discs(diameter)
    found = _segmenter(24.0, seen).with_diameter(diameter).predict(truth > 0)
    assert found.labels.shape == truth.shape
    assert _f1(truth, found.labels) == 1.0
    side = round(SIDE * 24 / diameter)
    assert found.maps["foreground"].shape[:2] == (side, side)
    assert max(seen[0]) >= side


def test_auto_takes_the_scale_at_which_cells_are_surest() -> None:
    truth, card = _discs(48), _segmenter(None, []).card
    half = Segmenter(_surer_at(64), card).with_diameter("auto").predict(truth > 0)
    assert half.maps["foreground"].shape[:2] == (64, 64)
    assert _f1(truth, half.labels) == 1.0
    same = Segmenter(_surer_at(-1), card).with_diameter("auto").predict(truth > 0)
    assert same.maps["foreground"].shape[:2] == (128, 128)  # no other is clearly better
    empty = Segmenter(_surer_at(-1), card).with_diameter("auto").segment(np.zeros((SIDE, SIDE)))
    assert empty.max() == 0


def test_without_a_diameter_nothing_is_resized() -> None:
    seen: list[tuple[int, ...]] = []
    _segmenter(24.0, seen).segment(_discs(48) > 0)
    assert seen == [(SIDE, SIDE)]


BY_SIZE = "predict.scales_by_size=[[16, [1.5]], [40, [1, 0.75]], [100, [0.5, 0.25]]]"


@pytest.mark.parametrize(
    ("diameter", "sides"), [(12, [192]), (30, [128, 96]), (50, [64, 32]), (0, [128, 160])]
)
def test_scales_suit_the_cells_of_the_first_look(diameter: float, sides: list[int]) -> None:
    model = _segmenter(None, []).with_changes([BY_SIZE, "predict.scales=[1, 1.25]"])
    views = model.views(_discs(diameter) > 0)
    assert [view.shape for view in views] == [(side, side) for side in sides]


@pytest.mark.parametrize("diameter", [12, 30, 50])
def test_cells_are_found_at_the_scales_that_suit_them(diameter: float) -> None:
    model = _segmenter(None, []).with_changes([BY_SIZE])
    found = score(_discs(diameter), model.segment(_discs(diameter) > 0))
    assert found["thresholds"]["0.60"]["f1"] == 1.0


def test_scales_that_are_asked_for_are_taken_for_all_sizes() -> None:
    model = _segmenter(None, []).with_changes([BY_SIZE])
    for changes, sides in (
        (["predict.scales=[1, 0.5]"], [128, 64]),
        (["predict.scales=[1, 0.5]", "decode.radius=3"], [128, 64]),
        (["predict.scales=[1, 0.5]", BY_SIZE], [192]),
        (["decode.radius=3"], [192]),
    ):
        views = model.with_changes(changes).views(_discs(12) > 0)
        assert [view.shape for view in views] == [(side, side) for side in sides]


def test_scales_suit_the_cells_that_changed_settings_find() -> None:
    """Discs of 12 and of 50 pixels: without the small ones other scales suit."""
    image = _discs(50) > 0
    image[100:106, 100:106] = True
    settings = {"small_objects_threshold": 5000}  # no disc is as large
    for model, changes in (
        (_segmenter(None, []).with_changes([BY_SIZE]), settings),
        (_segmenter(None, []).with_changes([BY_SIZE, "decode.small_objects_threshold=5000"]), {}),
    ):
        model._forward = _network(seen := [])
        model.predict(image, **changes)
        assert seen == [(128, 128)]  # nothing was found, so that the usual scale is all


def test_spaces_in_a_change_do_not_matter() -> None:
    model = _segmenter(None, []).with_changes([BY_SIZE]).with_changes(["predict.scales = [0.5]"])
    assert [view.shape for view in model.views(_discs(12) > 0)] == [(64, 64)]


def test_no_scale_is_looked_at_twice() -> None:
    seen: list[tuple[int, ...]] = []
    _segmenter(None, seen).with_changes([BY_SIZE]).views(_discs(30) > 0)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("surer", "scales", "sides"),
    [
        ([96], "[1, 0.75]", [96, 64]),  # two thirds of 0.75 is a half
        ([64], "[1, 0.5]", [64, 43]),
        ([96, 64], "[1, 0.75]", [96, 64]),  # it goes on but once
        ([128], "[1, 0.75]", [128, 96]),
        ([], "[1, 0.75]", [128, 96]),
        ([160], "[1, 1.25]", [128, 160]),  # only what is smaller shows that cells were in pieces
        ([128], "[1]", [128]),
    ],
)
def test_where_cells_are_surer_when_smaller_an_image_is_shown_smaller(
    surer: list[int], scales: str, sides: list[int]
) -> None:
    model = Segmenter(_surer_at(*surer), _segmenter(None, []).card)
    never = model.with_changes([f"predict.scales_by_size=[[100, {scales}]]"])
    told = never.with_changes(["predict.surer_when_smaller=0.02"])
    image = _discs(48) > 0
    assert [view.shape for view in told.views(image)] == [(side, side) for side in sides]
    expected = [round(SIDE * scale) for scale in yaml.safe_load(scales)]
    assert [view.shape for view in never.views(image)] == [(side, side) for side in expected]
    found = score(_discs(48), told.segment(image))
    assert found["thresholds"]["0.80"]["f1"] == 1.0


def test_how_much_surer_decides() -> None:
    """The mean confidence rises by 0.1 or more where the interior's does."""
    model = Segmenter(_surer_at(96), _segmenter(None, []).card)
    for least, side in ((0.05, 96), (0.5, 128)):
        changed = model.with_changes(
            ["predict.scales=[1, 0.75]", f"predict.surer_when_smaller={least}"]
        )
        assert changed.views(_discs(48) > 0)[0].shape == (side, side)


def test_scales_that_are_asked_for_stay() -> None:
    model = Segmenter(_surer_at(96), _segmenter(None, []).card)
    model = model.with_changes(["predict.surer_when_smaller=0.02"])
    views = model.with_changes(["predict.scales=[1, 0.75]"]).views(_discs(48) > 0)
    assert [view.shape for view in views] == [(128, 128), (96, 96)]


def test_sizes_are_those_at_the_told_diameter() -> None:
    # Shown at 24 / 48, discs of 48 have 24 pixels: 1 and 0.75 of that scale it is.
    model = _segmenter(24.0, []).with_changes([BY_SIZE]).with_diameter(48.0)
    assert [view.shape for view in model.views(_discs(48) > 0)] == [(64, 64), (48, 48)]


def test_a_diameter_is_included_and_beyond_the_last_stand_the_usual_scales() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[10:20, 10:20], labels[30:, 30:] = 1, 2  # of 100 pixels; the other is at the frame
    diameter = float(np.sqrt(400 / np.pi))

    def chosen(first: float) -> tuple[float, ...]:
        pairs = ((first, (2.0,)), (first + 1, (0.5,)))
        return scales_for(labels, PredictSettings(scales=(3.0,), scales_by_size=pairs))

    assert chosen(diameter) == (2.0,)
    assert chosen(diameter - 0.01) == (0.5,)
    assert chosen(diameter - 1.01) == (3.0,)


@pytest.mark.parametrize(
    "pairs",
    ["[[16, [1]], [16, [2]]]", "[[44, [1]], [16, [2]]]", "[[16, [0]]]", "[[16, []]]", "[16]"],
)
def test_sizes_out_of_order_are_refused(pairs: str) -> None:
    with pytest.raises(ValueError, match=r"predict.*scales_by_size"):
        _segmenter(None, []).with_changes([f"predict.scales_by_size={pairs}"])


@pytest.mark.parametrize(
    ("trained", "diameter", "message"),
    [
        (None, 20.0, "doesn't say how large"),
        (24.0, 0.0, "mean diameter in pixels"),
        (24.0, -3.0, "mean diameter in pixels"),
        (24.0, 1.0, "resized by 8 at most"),
        (24.0, float("nan"), "mean diameter in pixels"),
        (24.0, "large", "or auto"),
    ],
)
def test_impossible_diameters_are_refused(
    trained: float | None, diameter: float | str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _segmenter(trained, []).with_diameter(diameter)  # type: ignore[arg-type]


def test_settings_and_diameter_stay_together(tiny_model: Path) -> None:
    model = load_model(tiny_model, diameter=30.0).with_changes(["decode.radius=3"])
    assert (model.diameter, model.card.decode.radius) == (30.0, 3)
    assert model.maker()["diameter"] == 30.0
    assert len(model.maker()["weights"]) == 64


def test_labels_resized_up_and_down_are_as_before() -> None:
    labels = np.arange(12, dtype=np.int32).reshape(3, 4)
    larger = resize_labels(labels, (9, 12))
    np.testing.assert_array_equal(larger, np.kron(labels, np.ones((3, 3), np.int32)))
    np.testing.assert_array_equal(resize_labels(larger, (3, 4)), labels)


def test_images_keep_their_mean_when_they_shrink() -> None:
    image = np.random.default_rng(0).random((64, 96, 2)) * 1000
    small = resize_image(image, (16, 24))
    assert (small.shape, small.dtype) == ((16, 24, 2), np.float32)
    np.testing.assert_allclose(small.mean(axis=(0, 1)), image.mean(axis=(0, 1)), rtol=0.01)
    assert small.std() < 0.4 * image.std()  # averaged, not picked
    np.testing.assert_allclose(resize_image(np.full((5, 7), 3), (10, 9)), 3.0)


def test_labels_that_are_gone_leave_no_gap() -> None:
    labels = np.array([[0, 4, 4], [2, 0, 7]], np.int32)
    numbered, present = keep_present(labels)
    assert numbered.tolist() == [[0, 2, 2], [1, 0, 3]]
    assert present.tolist() == [1, 3, 6]
    assert keep_present(np.zeros((2, 2), np.int32))[1].size == 0
