"""Stores -> training tensors, drawn at random yet the same in every run.

Each sample has its own source of chance, named by seed, epoch and its number in the epoch. So
batches don't depend on the number of workers, nor an epoch on those before it.
The workers are threads: the compiled loops run beside the network without holding Python's lock,
and nothing is copied between processes.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellshed.augment import sample_warp, warp
from cellshed.cores import usable_cores
from cellshed.data.store import Store
from cellshed.intensity import vary_intensity
from cellshed.normalize import Scaling, as_taken, normalize, scaling
from cellshed.paste import paste_cells
from cellshed.pixel_weights import pixel_weights
from cellshed.settings import Config, TrainingSettings
from cellshed.spelling import nearest
from cellshed.targets import encode_targets


class Batch(TypedDict):
    """What a training step takes. S is the crop's side."""

    image: Tensor
    """(N, C, S, S) float32, normalised."""
    targets: dict[str, Tensor]
    """By head name: (N, channels, S, S), float32 or uint8 as cellshed.targets gives them."""
    pixel_weights: Tensor | None
    """(N, 1, S, S) float32, see cellshed.pixel_weights; None: all pixels weigh 1."""
    names: list[str]
    """Name of each image."""


@dataclass(frozen=True)
class Sample:
    """One crop, channels last."""

    image: NDArray[np.float32]
    targets: dict[str, NDArray[Any]]
    pixel_weights: NDArray[np.float32]
    """(S, S, 1)."""
    name: str


class Crops:
    """Random crops of the images of some stores.

    Args:
        stores: opened stores; all of their records are used (see Store.select).
        config: the sections augment, normalize, targets and training, and the model's heads and
            input channels, say what a crop is.

    Raises:
        ValueError: the stores hold no images, or none of a source that the settings weigh.
    """

    def __init__(self, stores: Sequence[Store], config: Config) -> None:
        self.stores = stores
        self.items = [(store, i) for store in stores for i in range(len(store))]
        if not self.items:
            raise ValueError("no training images: the stores hold none of the wanted split")
        self.config = config
        self._scalings: dict[int, Scaling] = {}
        sources = sorted({store.records[i].source for store, i in self.items})
        for name in config.training.source_weights:
            if name not in sources:
                raise ValueError(
                    f"training.source_weights: no training image is of '{name}'; "
                    f"{nearest(name, sources)}"
                )

    def __len__(self) -> int:
        return len(self.items)

    def order(self, epoch: int, length: int) -> list[int]:
        """Return the images of an epoch's samples.

        Shuffled, each as often as any other or once more; but with training.balance or
        source_weights drawn with replacement, so that rare cell types, or sources that matter
        more, come more often.
        """
        rng = self._chance(epoch, 0)
        count = len(self.items)
        if self.config.training.balance or self.config.training.source_weights:
            return [int(i) for i in rng.choice(count, length, p=self._shares())]
        rounds = [rng.permutation(count) for _ in range(-(-length // count))]
        return [int(i) for i in np.concatenate(rounds)[:length]]

    def sample(self, item: int, epoch: int, number: int) -> Sample:
        """Return a crop of an image, with its targets.

        Args:
            item: number of the image, below len(self).
            epoch: number of the epoch.
            number: of the sample within the epoch; with seed and epoch it settles all chance.

        Raises:
            ValueError: names the image that cannot be used, and why.
        """
        store, i = self.items[item]
        try:
            image, labels = self._crop(item, self._chance(epoch, 1 + number))
        except ValueError as error:
            raise ValueError(f"image '{store.records[i].name}': {error}") from error
        config = self.config
        targets = encode_targets(np.maximum(labels, 0), config.model.heads, config.targets)
        weights = pixel_weights(labels, config.training.cell_weights)
        return Sample(image, targets, weights[:, :, None], store.records[i].name)

    def _chance(self, epoch: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.config.training.seed, epoch, number])

    def _shares(self) -> NDArray[np.float64]:
        training = self.config.training
        records = [store.records[i] for store, i in self.items]
        groups = [(record.source, record.cell_type) for record in records]
        sizes = Counter(groups)
        # each of a group's n images: n ** (1 - balance) / n
        shares = np.array([sizes[group] ** -training.balance for group in groups])
        shares *= [training.source_weights.get(record.source, 1.0) for record in records]
        scaled: NDArray[np.float64] = shares / shares.sum()
        return scaled

    def _crop(
        self, item: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        augment = self.config.augment
        crop, labels = self._cut(item, rng)
        if augment.paste and rng.random() < augment.paste:
            crop, labels = paste_cells(rng, crop, labels, *self._cut(item, rng))
        return vary_intensity(rng, augment, crop), labels

    def _cut(
        self, item: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return a crop as it is warped and normalised, its intensities as acquired."""
        config, size = self.config, self.config.training.crop
        store, i = self.items[item]
        image, labels = as_taken(store.image(i), config.model.in_channels), store.labels(i)
        if image.shape[2] != config.model.in_channels:
            raise ValueError(
                f"{image.shape[2]} channels, but the network takes {config.model.in_channels}: "
                f"set model.in_channels={image.shape[2]}, or prepare them with one --channel"
            )
        how = sample_warp(rng, config.augment, image.shape[:2], size)
        if config.normalize.method == "histogram":
            return warp(normalize(image, config.normalize), labels, how, size)
        return warp(image, labels, how, size, self._scaling(item, image))

    def _scaling(self, item: int, image: NDArray[Any]) -> Scaling:
        """Return an image's normalisation, for which all of it is read the first time alone."""
        known = self._scalings.get(item)
        if known is None:
            known = self._scalings[item] = scaling(image, self.config.normalize)
        return known


def loader(
    crops: Crops,
    *,
    epoch: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Yield the batches of an epoch, computed ahead by training.workers threads.

    Args:
        crops: where they come from; the same object for all epochs of a run, so that what it
            knows of its images isn't found out again.
        epoch: number of the epoch; another epoch has other crops in another order.
        rank: number of this process among those that train together; each takes its part of
            what is batch_size * world samples a step.
        world: number of these processes.

    Raises:
        ValueError: an image that cannot be used: it is named.
    """
    training = crops.config.training
    steps = steps_per_epoch(crops.stores, training, world=world)
    order = crops.order(epoch, steps * world * training.batch_size)

    def plan(step: int) -> list[tuple[int, int, int]]:
        first = (step * world + rank) * training.batch_size
        return [(order[n], epoch, n) for n in range(first, first + training.batch_size)]

    plans = (plan(step) for step in range(steps))
    workers = suitable_workers() if training.workers < 0 else training.workers
    if workers:
        return _ahead(crops, plans, workers)
    return (collate([crops.sample(*one) for one in plan]) for plan in plans)


def steps_per_epoch(stores: Sequence[Store], training: TrainingSettings, *, world: int = 1) -> int:
    """Return training.steps_per_epoch or, if that is 0, as many as show each image once."""
    images = sum(len(store) for store in stores)
    return training.steps_per_epoch or -(-images // (training.batch_size * world))


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples into one batch; tensors lie channels last in memory, as they were computed."""
    names = samples[0].targets
    weights = _stack([sample.pixel_weights for sample in samples])
    return {
        "image": _stack([sample.image for sample in samples]),
        "targets": {name: _stack([sample.targets[name] for sample in samples]) for name in names},
        "pixel_weights": None if (weights == 1).all() else weights,
        "names": [sample.name for sample in samples],
    }


def suitable_workers() -> int:
    """Return a number of threads that leaves most of the machine to the network."""
    return min(4, max(1, usable_cores() // 2))


def _ahead(
    crops: Crops, plans: Iterator[list[tuple[int, int, int]]], workers: int
) -> Iterator[Batch]:
    """Yield batches in order while threads compute those that follow."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="cellshed-batches")

    def submit(count: int) -> list[list[Future[Sample]]]:
        chosen = islice(plans, count)
        return [[pool.submit(crops.sample, *one) for one in plan] for plan in chosen]

    try:
        waiting = deque(submit(1 + workers))
        while waiting:
            samples = [future.result() for future in waiting.popleft()]
            waiting.extend(submit(1))
            yield collate(samples)
    finally:
        pool.shutdown(cancel_futures=True)


def _stack(arrays: Sequence[NDArray[Any]]) -> Tensor:
    # (N, S, S, C) in memory, (N, C, S, S) as torch counts the axes
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
