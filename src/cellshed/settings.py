"""What can be set: one tree of frozen sections.

Every part of the program takes the section that concerns it; nothing reads settings from
anywhere else. How they are read and written: `config`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    field_validator,
    model_validator,
)

Level = Annotated[str, Field(pattern=r"^[CP][1-7]$")]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
LARGEST_CHANGE = 8.0
"""Images are enlarged or reduced by this much at most; more is a mistake in a setting."""
Scale = Annotated[float, Field(ge=1 / LARGEST_CHANGE, le=LARGEST_CHANGE)]
Scales = Annotated[tuple[Scale, ...], Field(min_length=1)]


class Settings(BaseModel):
    """Base of every section: frozen, and no key that isn't known."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelSettings(Settings):
    """The network: backbone, pyramid and heads."""

    backbone: str = "resnet50"
    """A name of cellshed.model.BACKBONES, or any timm name."""
    pretrained: str = "none"
    """Start weights of the backbone: none, hub (timm's ImageNet weights), a local file, or
    package:NAME for the weights file inside an installed Python package."""
    in_channels: Positive = 1
    location: bool = True
    """Append row and column coordinates in [0, 1] to the image."""
    backbone_levels: tuple[Level, ...] = ("C3", "C4", "C5")
    pyramid_levels: tuple[Level, ...] = ("P3", "P4", "P5", "P6", "P7")
    fusion: Literal["finest", "sum", "cascade"] = "finest"
    """finest: the heads see the finest P-level alone, as in the reference. sum: all of them.
    cascade: the finest, and each P-level is made of the coarser one behind norm and ReLU."""
    pyramid_width: Positive = 256
    pyramid_blocks: Annotated[int, Field(ge=0)] = 0
    """Residual blocks that each P-level of a cascade passes before the next finer one is made."""
    separable: bool = False
    """Depthwise 3x3 convolutions for the pyramid's outputs."""
    heads: tuple[str, ...] = ("inner_distance", "pixelwise")
    """Names of cellshed.targets.TARGETS, one head each."""
    head_width: Positive = 64
    """Channels of the 3x3 convolutions that carry a head from the pyramid to full resolution."""
    head_hidden: Positive = 128
    """Channels of the 1x1 convolution before a head's last."""
    head_stride: Literal[1, 2, 4, 8] = 1
    """Stride at which a head's convolutions end; its logits are enlarged from there."""
    head_finish: Literal["bilinear", "shuffle"] = "bilinear"
    """How the logits of a head_stride above 1 get to full resolution. shuffle: each pixel of a
    stride's cell has its own channels."""
    head_relu: bool = False
    """Norm and ReLU behind a head's 3x3 convolutions, which are linear in the reference."""
    norm: Literal["batch", "frozen", "group"] = "batch"
    """batch: batch norm; frozen: with its statistics held; group: group norm in the heads and
    frozen batch norm in the backbone."""
    norm_momentum: Fraction = 0.01
    """Weight of a new batch in the batch norms' statistics; 0.01 is the reference's."""

    @model_validator(mode="after")
    def _blocks_in_a_cascade(self) -> Self:
        if self.pyramid_blocks and self.fusion != "cascade":
            raise ValueError(
                f"pyramid_blocks {self.pyramid_blocks} with fusion {self.fusion}: they belong to "
                "fusion cascade; set that, or pyramid_blocks=0"
            )
        return self


class NormalizeSettings(Settings):
    """How intensities become network input. Travels with the model."""

    method: Literal["image", "dataset", "percentile", "histogram", "none"] = "image"
    """image: (x - mean) / (std + 1e-7) per image and channel. dataset: mean and std of the
    training images, as in the paper. percentile: low..high percentile of an image to 0..1.
    histogram: Mesmer's clipping and adaptive histogram equalisation."""
    low: Annotated[float, Field(ge=0, lt=100)] = 1.0
    high: Annotated[float, Field(gt=0, le=100)] = 99.0
    mean: tuple[float, ...] = ()
    """dataset: mean per channel; found from the training images when empty."""
    std: tuple[float, ...] = ()
    kernel_size: Positive = 128
    """histogram: side of the equalisation's tiles, in pixels."""


class InnerDistanceSettings(Settings):
    """Arguments of cellshed.inner_distance."""

    erosion: Annotated[int, Field(ge=0)] = 1
    alpha: float | Literal["auto"] = "auto"
    beta: float = 1.0
    power: Literal[1, 2] = 2


class OuterDistanceSettings(Settings):
    """Arguments of cellshed.outer_distance."""

    erosion: Annotated[int, Field(ge=0)] = 1
    normalize: bool = True


class PixelwiseSettings(Settings):
    """Arguments of cellshed.pixelwise."""

    dilation: Annotated[int, Field(ge=0)] = 1


class ForegroundSettings(Settings):
    """cellshed.foreground takes no arguments."""


class TargetsSettings(Settings):
    """Arguments of each target, by its name."""

    inner_distance: InnerDistanceSettings = InnerDistanceSettings()
    outer_distance: OuterDistanceSettings = OuterDistanceSettings()
    pixelwise: PixelwiseSettings = PixelwiseSettings()
    pixelwise_separated: PixelwiseSettings = PixelwiseSettings()
    foreground: ForegroundSettings = ForegroundSettings()


class AugmentSettings(Settings):
    """What is changed at random in each crop. Zero, or (1, 1), means never."""

    rotation: Annotated[float, Field(ge=0, le=180)] = 180.0
    """Degrees, either way."""
    zoom: tuple[float, float] = (0.7, 1.43)
    """Range of the magnification; drawn evenly on a logarithmic scale."""
    stretch: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Ratio of the two axes' zooms: within 1 - stretch .. 1 / (1 - stretch)."""
    bend: Annotated[float, Field(ge=0)] = 0.0
    """Largest standard deviation, in the crop's pixels, of how far places 40 pixels apart are
    moved aside; what lies between goes with them smoothly."""
    flip: bool = True
    paste: Fraction = 0.0
    """Share of the crops into which cells of another crop of the same image are pasted."""
    brightness: Annotated[float, Field(ge=0)] = 0.0
    """Largest shift, in standard deviations of the normalised image."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    blur: Annotated[float, Field(ge=0)] = 0.0
    """Largest Gaussian sigma, in pixels."""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """Largest standard deviation of added Gaussian noise, in normalised units."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Curve of the intensities: exponent within 1 - gamma .. 1 / (1 - gamma)."""
    relief: Fraction = 0.0
    """Largest share of the image that is replaced by its slope in one direction, as oblique light
    or differential interference contrast shows it; half of the crops stay as they are."""
    shade: Annotated[float, Field(ge=0)] = 0.0
    """Largest brightening of one side and darkening of the other, in standard deviations."""
    defocus: Fraction = 0.0
    """Largest share of its detail that one side loses, as where it lies out of focus."""

    @model_validator(mode="after")
    def _zoom_in_order(self) -> Self:
        low, high = self.zoom
        if not 0 < low <= high:
            raise ValueError(f"zoom {self.zoom}: give two positive numbers, the smaller first")
        return self


class TrainingSettings(Settings):
    """One training run."""

    epochs: Positive = 50
    steps_per_epoch: Annotated[int, Field(ge=0)] = 0
    """0: as many as show each image once."""
    max_minutes: Annotated[float, Field(ge=0)] = 0.0
    """Stop after this many minutes, with the schedule stretched over them; 0: no limit."""
    batch_size: Positive = 2
    balance: Fraction = 0.0
    """0: each image is drawn as often as any other; 1: each cell type of each source is.
    Between: a cell type of n images is drawn in proportion to n ** (1 - balance)."""
    source_weights: dict[str, PositiveFloat] = Field(default_factory=dict)
    """How many times as often as by balance alone the images of a source are drawn, by the name of
    the folder or file that they were prepared from; 1 where it isn't given."""
    crop: Positive = 512
    """Side of the square crops, in pixels; a multiple of 32."""
    optimizer: Literal["adam", "adamw", "sgd", "keras-adam"] = "adamw"
    lr: PositiveFloat = 5e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    schedule: Literal["constant", "exponential", "cosine", "one-cycle"] = "cosine"
    decay: Annotated[float, Field(gt=0, le=1)] = 0.99
    """exponential: factor of the learning rate after each epoch."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip: Literal["none", "global", "variable"] = "global"
    """variable: each parameter's gradient by itself, as Keras' clipnorm does."""
    clip_norm: PositiveFloat = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the exponential moving average of the weights; 0: none."""
    loss_weights: dict[str, float] = Field(default_factory=dict)
    """Factor of a head's loss, by head name; a head's own default where it isn't given."""
    class_weights: Literal["balanced", "none"] = "balanced"
    """balanced: each class weighs as much as every other in a batch, as in the reference."""
    cell_weights: Literal["area", "diameter"] = "area"
    """What a cell counts by in the losses. area: all pixels alike. diameter: pixels of small cells
    weigh more, those of large ones less (see cellshed.pixel_weights)."""
    distance_loss: Literal["one_sided", "relu"] = "one_sided"
    """What a distance head is compared by. relu: its result, as in the reference; a head all of
    whose results fall below zero then learns nothing any more. one_sided: the value before the
    ReLU where the target is above zero, the result elsewhere; such a head can't die."""
    teacher_share: Fraction = 0.5
    """Where there are teachers (train --teacher): share of what they say in the loss; the rest is
    the labels'."""
    val_every: Positive = 1
    """Epochs between validations."""
    val_images: Annotated[int, Field(ge=0)] = 0
    """At most this many validation images, evenly spread over the set; 0: all."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images held back when the store has no val split."""
    select: Literal["f1", "loss", "last"] = "f1"
    """What the best checkpoint is chosen by, on val: object F1 at IoU 0.5, or the loss. last: the
    latest is kept, for schedules that end with small steps; patience then ends nothing."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop after this many validations without a new best; 0: never."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Of the network's arithmetic in training. auto: bf16 on a device that has hardware for it (on
    a CPU: Intel's AMX), else fp32; environment.json says which."""
    workers: Annotated[int, Field(ge=-1)] = -1
    """Threads that compute batches ahead; 0: none; -1: as many as suit the machine."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: Annotated[int, Field(ge=0)] = 0


class DecodeSettings(Settings):
    """Arguments of cellshed.deep_watershed, and where its two maps come from."""

    markers: Literal["auto", "inner_distance", "outer_distance", "interior"] = "auto"
    """Map whose maxima become markers. auto: the first of these that the model has; interior:
    each connected piece of the thresholded interior is one marker."""
    maxima_threshold: float = 0.1
    interior_threshold: float = 0.3
    edge_weight: Fraction = 0.0
    """Share of pixelwise's edge (of pixelwise_separated's background_edge) that is added to the
    interior before flooding, so that cells reach their rim; 0: the reference."""
    maxima_smooth: Annotated[float, Field(ge=0)] = 0.0
    interior_smooth: Annotated[float, Field(ge=0)] = 1.0
    radius: Positive = 2
    maxima_algorithm: Literal["h_maxima", "peak_local_max"] = "h_maxima"
    exclude_border: bool = False
    """peak_local_max: take no maxima within `radius` of the frame."""
    label_erosion: Annotated[int, Field(ge=0)] = 0
    small_objects_threshold: Annotated[int, Field(ge=0)] = 15
    fill_holes_threshold: Annotated[int, Field(ge=0)] = 15
    pixel_expansion: Annotated[int, Field(ge=0)] = 0
    confidence_threshold: Fraction = 0.0
    """Cells of a lower raw confidence (see cellshed.watershed.confidence) are dropped; 0: none."""


class CalibrationSettings(Settings):
    """From a raw confidence c to the probability p that the cell is right.

    logit(p) = rise * ln(c) - fall * ln(1 - c) + offset: beta calibration.
    """

    rise: PositiveFloat = 1.0
    fall: PositiveFloat = 1.0
    offset: float = 0.0
    cells: Annotated[int, Field(ge=0)] = 0
    """Predicted cells of the validation images that it was fitted on."""
    error_before: float = 0.0
    """Expected calibration error on them of the raw confidences, and of the calibrated ones."""
    error_after: float = 0.0


class PredictSettings(Settings):
    """How images larger than a tile are cut and put together again."""

    tile: Positive = 1024
    """Side of a tile in pixels, a multiple of 32."""
    overlap: Annotated[int, Field(ge=0)] = 128
    """Pixels that neighbouring tiles share, at least; at most tile - 32."""
    zoom: Scale = 1.0
    """Images are shown to the network enlarged by this, and cells are decoded at that scale. Thin
    borders between small cells need more than 1; the cost grows with its square."""
    scales: Scales = (1.0,)
    """Scales, beside `zoom`, at which an image is shown; cells found at each compete, the surest
    win. `[1, 0.75]` finds cells of more sizes, at one and a half times the cost. Where
    `scales_by_size` is set, it goes before; to set this alone on a trained model unsets that."""
    scales_by_size: tuple[tuple[PositiveFloat, Scales], ...] = ()
    """Pairs of a diameter and scales: an image is shown at the scales of the first pair whose
    diameter is no less than that of the cells found at the first of `scales`, in that view's
    pixels (half of their area is in smaller ones). `[[18, [1, 1.3]], [47, [1, 0.75]], [500, [1,
    0.5]]]` enlarges small cells and reduces large ones. An image with larger cells, or none, is
    shown at `scales`."""
    surer_when_smaller: Annotated[float, Field(ge=0)] = 0.0
    """Large cells came in pieces where those found at the second of an image's scales, smaller
    than the first, are on average surer by this (raw confidence) or more: the image is then shown
    at the second scale and at two thirds of it instead. 0: never."""
    mirrors: Literal[1, 2, 4] = 1
    """Average the maps over each tile and its mirror images, so many in all: better, at that many
    times the cost. 2: itself and mirrored both ways (a half turn), most of what all four bring.
    Models and settings from before may say false for 1 and true for 4."""

    @field_validator("mirrors", mode="before")
    @classmethod
    def _once_a_switch(cls, mirrors: Any) -> Any:
        return {False: 1, True: 4}[mirrors] if isinstance(mirrors, bool) else mirrors

    @model_validator(mode="after")
    def _tiles_can_be_laid(self) -> Self:
        if self.tile % 32:
            raise ValueError(f"tile {self.tile}: give a multiple of 32, such as 1024")
        if self.overlap > self.tile - 32:
            raise ValueError(
                f"overlap {self.overlap} with tiles of {self.tile}: give at most {self.tile - 32}"
            )
        return self

    @model_validator(mode="after")
    def _diameters_rise(self) -> Self:
        diameters = [diameter for diameter, _ in self.scales_by_size]
        if diameters != sorted(set(diameters)):
            raise ValueError(f"scales_by_size: give diameters that rise, not {diameters}")
        return self


class Config(Settings):
    """All settings of a run."""

    licence: str = ""
    """Licence of the training data; written into the model folder."""
    model: ModelSettings = ModelSettings()
    normalize: NormalizeSettings = NormalizeSettings()
    targets: TargetsSettings = TargetsSettings()
    augment: AugmentSettings = AugmentSettings()
    training: TrainingSettings = TrainingSettings()
    decode: DecodeSettings = DecodeSettings()
    predict: PredictSettings = PredictSettings()
