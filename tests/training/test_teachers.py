"""Learning from other models: their mean maps, mixed into the losses."""

from pathlib import Path

import pytest
import torch

from cellshed.config import load_config
from cellshed.data.store import Store
from cellshed.model.folder import load_network, read_card
from cellshed.settings import TrainingSettings
from cellshed.training.loop import train
from cellshed.training.losses import cross_entropy, head_losses, taught_losses
from cellshed.training.teachers import Teachers, open_teachers

CPU = torch.device("cpu")
CHANGES = ["training.device=cpu", "training.epochs=1"]


@pytest.fixture(scope="module")
def two_models(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("teachers")
    return [
        train(load_config("debug", [*CHANGES, f"training.seed={k}"]), tiny_store, folder / str(k))
        for k in range(2)
    ]


def test_teachers_say_the_mean_of_their_maps(two_models: list[Path]) -> None:
    image = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        each = [load_network(folder)[0](image) for folder in two_models]
    found = Teachers(two_models, 1.0, CPU)(image)
    assert set(found) == set(each[0])
    for name, maps in found.items():
        assert not maps.requires_grad
        mean = (each[0][name] + each[1][name]) / 2
        torch.testing.assert_close(maps, mean, atol=1e-4, rtol=1e-4)


def test_a_teacher_sees_crops_at_its_own_scale(two_models: list[Path]) -> None:
    """A pupil of half its zoom shows it images twice as large, and gets maps of its own size."""
    half = Teachers(two_models[:1], 0.5, CPU)
    image = torch.zeros(1, 1, 64, 64)
    image[:, :, 16:48, 16:48] = 1
    found = half(image)
    large = torch.nn.functional.interpolate(image, (128, 128), mode="bilinear", antialias=True)
    with torch.inference_mode():
        expected = load_network(two_models[0])[0](large)
    for name, maps in found.items():
        assert maps.shape[2:] == (64, 64)
        small = torch.nn.functional.avg_pool2d(expected[name], 2)
        assert (maps - small).abs().mean() < 0.02


def test_soft_cross_entropy_by_hand_and_as_of_classes() -> None:
    logits = torch.tensor([[[[0.8]], [[0.2]]]]).log()
    target = torch.tensor([[[[0.25]], [[0.75]]]])
    expected = -(0.25 * torch.tensor(0.8).log() + 0.75 * torch.tensor(0.2).log())
    torch.testing.assert_close(cross_entropy(logits, target), expected)
    logits = torch.randn(2, 3, 4, 4)
    hard = torch.nn.functional.one_hot(torch.randint(0, 3, (2, 4, 4)), 3).permute(0, 3, 1, 2)
    weights = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(
        cross_entropy(logits, hard.float(), weights), cross_entropy(logits, hard, weights)
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_losses_are_mixed_by_share_and_teachers_weigh_classes_as_they_come(share: float) -> None:
    settings = TrainingSettings(teacher_share=share, class_weights="balanced")
    logits = {"inner_distance": torch.randn(1, 1, 8, 8), "pixelwise": torch.randn(1, 3, 8, 8)}
    classes = torch.nn.functional.one_hot(torch.randint(0, 3, (1, 8, 8)), 3).permute(0, 3, 1, 2)
    labels = {"inner_distance": torch.rand(1, 1, 8, 8), "pixelwise": classes}
    maps = {
        "inner_distance": torch.rand(1, 1, 8, 8),
        "pixelwise": torch.randn(1, 3, 8, 8).softmax(1),
    }
    hard = head_losses(logits, labels, settings)
    mixed = taught_losses(hard, logits, maps, settings)
    distance = torch.where(
        maps["inner_distance"] > 0, logits["inner_distance"], logits["inner_distance"].relu()
    )
    soft = {
        "inner_distance": ((distance - maps["inner_distance"]) ** 2).mean(),
        "pixelwise": -(maps["pixelwise"] * logits["pixelwise"].log_softmax(1)).sum(1).mean(),
    }
    for name, loss in mixed.items():
        torch.testing.assert_close(loss, (1 - share) * hard[name] + share * soft[name])


def test_teachers_change_the_training_by_their_share(
    two_models: list[Path], tiny_store: Store, tmp_path: Path
) -> None:
    def weights(run: str, share: float, teachers: list[Path]) -> dict[str, torch.Tensor]:
        config = load_config("debug", [*CHANGES, f"training.teacher_share={share}"])
        best = train(config, tiny_store, tmp_path / run, teachers=teachers)
        return load_network(best)[0].state_dict()

    alone = weights("alone", 1.0, [])
    untaught = weights("untaught", 0.0, two_models)
    taught = weights("taught", 1.0, two_models)
    assert all(torch.equal(alone[name], untaught[name]) for name in alone)
    assert not all(torch.equal(alone[name], taught[name]) for name in alone)


def test_the_card_names_the_teachers(
    two_models: list[Path], tiny_store: Store, tmp_path: Path
) -> None:
    best = train(load_config("debug", CHANGES), tiny_store, tmp_path / "run", teachers=two_models)
    told = read_card(best).data["teachers"]
    assert [teacher["name"] for teacher in told] == [read_card(m).name for m in two_models]
    assert told[0]["data"]["train"][0]["images"] > 0


def test_teachers_have_to_suit(two_models: list[Path]) -> None:
    config = load_config("debug")
    assert open_teachers([], config, CPU) is None
    with pytest.raises(ValueError, match="settings of normalize aren't those of this training"):
        open_teachers(two_models, load_config("debug", ["normalize.method=none"]), CPU)
    with pytest.raises(ValueError, match="takes 1 channels, this training 2"):
        open_teachers(two_models, load_config("debug", ["model.in_channels=2"]), CPU)
    other = load_config("debug", ["model.heads=[inner_distance,outer_distance]"])
    with pytest.raises(ValueError, match="no head outer_distance"):
        open_teachers(two_models, other, CPU)


def test_a_run_goes_on_with_its_own_teachers_alone(
    two_models: list[Path], tiny_store: Store, tmp_path: Path
) -> None:
    one, other = two_models
    run = tmp_path / "run"
    train(load_config("debug", CHANGES), tiny_store, run, teachers=[one])
    longer = load_config("debug", [*CHANGES, "training.epochs=2"])
    for teachers in ([], [other], [one, other]):
        with pytest.raises(ValueError, match="another initial model or other teachers: give it"):
            train(longer, tiny_store, run, resume=True, teachers=teachers)
    best = train(longer, tiny_store, run, resume=True, teachers=[one])
    assert len(read_card(best).data["teachers"]) == 1


def test_a_teacher_of_the_same_data_set_has_its_statistics(
    tiny_store: Store, tmp_path: Path
) -> None:
    config = load_config("debug", [*CHANGES, "normalize.method=dataset"])
    teacher = train(config, tiny_store, tmp_path / "teacher")
    train(config, tiny_store, tmp_path / "pupil", teachers=[teacher])
