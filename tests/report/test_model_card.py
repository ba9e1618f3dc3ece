"""A model's card says what people need to know of it."""

import pytest

from cellshed.report.model_card import model_card

CARD = {
    "name": "one",
    "summary": "Cells.",
    "licence": "CC0",
    "recipe": {"sets": {}, "commit": "abc", "settings": ["one.yaml"], "settings_sha256": "0" * 64},
    "scores": {},
}


@pytest.mark.parametrize(
    ("predict", "words"),
    [
        ({"scales": [1.0], "scales_by_size": []}, "shown to it at scale 1."),
        ({"scales": [1.0, 0.75, 1.3], "scales_by_size": []}, "at scale 1, 0.75 and 1.3."),
        (
            {"scales": [1.0], "scales_by_size": [[13.5, [1.6]], [44.0, [1.0, 0.75]]]},
            "ones): up to 13.5 pixels 1.6; up to 44 pixels 1 and 0.75; larger ones, or none, 1.",
        ),
        (
            {"scales": [1.0], "scales_by_size": [[44.0, [1.0, 0.75]]], "surer_when_smaller": 0.019},
            "or none, 1. Where cells at the second of these scales, if it is the smaller one, are "
            "on average surer by 0.019 or more",
        ),
    ],
)
def test_the_card_tells_at_which_scales_images_are_seen(
    predict: dict[str, list[object]], words: str
) -> None:
    assert words in model_card(CARD | {"predict": predict}, {}, [], "")
