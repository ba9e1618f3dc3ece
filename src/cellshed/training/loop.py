"""The training loop: stores and settings in, a run folder with the best model out."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object

from cellshed.batches import Batch, Crops, loader, steps_per_epoch
from cellshed.config import load_config
from cellshed.data.diameters import median_diameter
from cellshed.data.store import Store, open_store
from cellshed.engines.registry import network_hash
from cellshed.engines.torch_engine import find_device
from cellshed.model.folder import ModelCard, find_model, read_card, save_model
from cellshed.model.memory import keep_freed_memory
from cellshed.normalize import as_taken, fit
from cellshed.settings import Config, PredictSettings
from cellshed.training.initial import (
    at_one_size,
    calibration_left,
    check_statistics,
    inherited,
    looks_of_its_own,
    settings_from,
    starting_model,
)
from cellshed.training.learner import Learner
from cellshed.training.optimizers import learning_rate
from cellshed.training.precision import MIXED, choose_precision
from cellshed.training.run import Row, RunFolder, State, Status, value_of
from cellshed.training.split import described, digest, split_stores
from cellshed.training.teachers import open_teachers
from cellshed.training.validation import spread, to_row, validate_images

Listener = Callable[[Status], None]


def train(  # noqa: PLR0913  each is one option of the command line
    config: Config | str | Path,
    data: str | Path | Store | Sequence[str | Path | Store],
    out: str | Path,
    *,
    resume: bool = False,
    init: str | Path | None = None,
    teachers: Sequence[str | Path] = (),
    progress: Listener | None = None,
) -> Path:
    """Train a network and leave the best one, by the validation images, as a model folder.

    Args:
        config: settings, or the name of a preset or YAML file; the preset finetune starts from
            the shipped model phase where `init` names no other.
        data: one or more stores made by prepare. Their split "train" is trained on and "val"
            chosen by; without "val", a seeded share of the training images is held back.
        out: run folder: config.yaml, history.csv, environment.json, TensorBoard events, best/
            and last/ (model folders), last/state.pt.
        resume: go on with a run that was interrupted. On a CPU it ends with the same weights
            as an uninterrupted one, bit for bit, unless max_minutes is set. The settings must be
            the same, but for epochs, max_minutes and patience.
        init: model whose weights the network starts from: a folder, a run, or a shipped model's
            name. Network, normalisation, targets and decoder are its own where the settings
            don't say otherwise; where it looks at images by the size of their cells, the scales
            are those for the cells annotated here, in training too. It is itself the first
            candidate for the best model, so that the result is never worse on the validation
            images.
        teachers: models, named as for init, whose maps it learns beside the labels; see
            training.teacher_share.
        progress: called after each step and each epoch.

    Returns:
        The folder of the best model.

    Raises:
        ValueError: settings, stores, models or folders don't fit, with the remedy.
        FloatingPointError: the loss isn't finite; names the images of the batch.
    """
    init = starting_model(config, init)
    config = config if isinstance(config, Config) else load_config(config)
    listed = [data] if isinstance(data, str | Path | Store) else list(data)
    stores = [d if isinstance(d, Store) else open_store(d) for d in listed]
    looks = config.predict
    if init is not None:
        fixed = looks_of_its_own(config)
        config = settings_from(config, init)
        looks = config.predict
        config = config if fixed else at_one_size(config, stores)
    check_statistics(config.model, init)
    device = find_device(config.training.device)  # refuses one that isn't there
    precision = choose_precision(config.training.precision, device)
    keep_freed_memory()
    folder = RunFolder(out)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=MIXED[precision],
    )
    try:
        trainer = Trainer(config, stores, folder, accelerator, teachers, progress)
        with accelerator.main_process_first():
            folder.begin(config, precision, resume=resume or not accelerator.is_main_process)
        trainer.start(init, resume, looks)
        trainer.run()
        accelerator.wait_for_everyone()  # the main process alone writes the best model
    finally:
        accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)
    return folder.best


class Trainer:
    """One run: what learns, the stores, the folder and how far it has come."""

    def __init__(
        self,
        config: Config,
        stores: Sequence[Store],
        folder: RunFolder,
        accelerator: Accelerator,
        teachers: Sequence[str | Path],
        progress: Listener | None,
    ) -> None:
        self.train_stores, self.val_stores = split_stores(stores, config.training)
        self.config = _with_statistics(config, self.train_stores)
        self.settings = self.config.training
        self.crops = Crops(self.train_stores, self.config)
        self.diameter = median_diameter(self.train_stores)
        self.folder = folder
        self.accelerator = accelerator
        self.teachers = [find_model(model) for model in teachers]
        taught_by = open_teachers(self.teachers, self.config, accelerator.device)
        self.learner = Learner(self.config, accelerator, taught_by)
        self.progress = progress if accelerator.is_main_process else None
        self.state = State(images=digest(*self.train_stores, *self.val_stores))
        self.initial: ModelCard | None = None
        self.looks = config.predict
        self.anew: list[str] = []
        self._began = time.monotonic()
        world = accelerator.num_processes
        self.steps = steps_per_epoch(self.train_stores, self.settings, world=world)

    def start(self, init: Path | None, resume: bool, looks: PredictSettings) -> None:
        """Load the weights to start from, or everything to go on with.

        Args:
            init: model folder of the initial model.
            resume: go on with a run.
            looks: how the model looks at images until it has learned from some.
        """
        self.looks = looks
        others = [*([] if init is None else [init]), *self.teachers]
        self.state.models = [network_hash(folder) for folder in others]
        self.anew = self.learner.start(init)
        self.initial = None if init is None else read_card(init)
        saved = self.folder.load_state() if resume else None
        if saved is not None:
            self._restore(*saved)
        elif init is not None:
            self._record({"epoch": 0, "step": 0, "seconds": 0.0} | self._validate())

    def run(self) -> None:
        """Train until the epochs, the minutes or the patience are used up."""
        self._began = time.monotonic()
        over = self._is_over()
        while not (over or self._is_tired()):
            row = self._epoch()
            self.state.epoch += 1
            over = self._is_over()  # asked once: what is over is validated, what isn't goes on
            if over or self.state.epoch % self.settings.val_every == 0:
                row |= self._validate()
            self.state.seconds, self._began = self._seconds(), time.monotonic()
            self._record(row | {"seconds": self.state.seconds})
        self.folder.close()

    def _is_over(self) -> bool:
        return self.state.epoch >= self.settings.epochs or self._share() >= 1

    def _is_tired(self) -> bool:
        patience = self.settings.patience
        return bool(patience) and self.state.validations_since_best >= patience

    def _seconds(self) -> float:
        """Return the time spent on the run, earlier sittings included."""
        return self.state.seconds + time.monotonic() - self._began

    def _own_share(self) -> float:
        """Return how much of the run is over, by epochs or minutes, whichever is more."""
        share = self.state.step / (self.steps * self.settings.epochs)
        if self.settings.max_minutes:
            share = max(share, self._seconds() / (60 * self.settings.max_minutes))
        return min(share, 1.0)

    def _share(self) -> float:
        """Return _own_share, made the same in all processes so that they stop together."""
        share = self._own_share()
        if self.settings.max_minutes and self.accelerator.num_processes > 1:
            mine = torch.tensor(share, device=self.accelerator.device)
            share = float(self.accelerator.gather(mine).max())
        return share

    def _epoch(self) -> Row:
        """Take one epoch's steps; return its mean losses."""
        sums: dict[str, float] = {}
        taken = 0
        rate = self.settings.lr
        for batch in self._batches():
            share = self._share()
            if share >= 1 and taken:
                break
            rate = learning_rate(self.settings, self.state.step, self.state.epoch, share)
            losses = self._step(batch, rate)
            taken += 1
            self.state.step += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            self._tell(taken, losses["loss"])
        means = {name: value / max(taken, 1) for name, value in sums.items()}
        return {"epoch": self.state.epoch + 1, "step": self.state.step, "lr": rate} | means

    def _batches(self) -> Iterator[Batch]:
        return loader(
            self.crops,
            epoch=self.state.epoch,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )

    def _step(self, batch: Batch, rate: float) -> dict[str, float]:
        try:
            return self.learner.step(batch, rate)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{error} at step {self.state.step + 1}, in the batch of "
                f"{', '.join(batch['names'])}: lower training.lr, or look at these images"
            ) from error

    def _validate(self) -> Row:
        """Score the validation images with the averaged weights, where there are any."""
        images = spread(self.val_stores, self.settings.val_images)
        mine = images[self.accelerator.process_index :: self.accelerator.num_processes]
        with self.learner.at_rest() as net:
            sums = validate_images(net, mine, self.config, self.accelerator.device)
        return to_row(np.sum(gather_object([sums]), axis=0))

    def _record(self, row: Row) -> None:
        """Note an epoch's results; write models, history and the checkpoint."""
        state = self.state
        state.history.append(row)
        value = value_of(row, self.settings.select)
        better = value is not None and value > state.best
        if value is not None:
            state.best = max(state.best, value)
            state.validations_since_best = 0 if better else state.validations_since_best + 1
            state.best_epoch = state.epoch if better else state.best_epoch
        if self.accelerator.is_main_process:
            self._write(row, better)
        self._tell(self.steps, row.get("loss", float("nan")), row)

    def _write(self, row: Row, better: bool) -> None:
        card = self._card(row)
        save_model(self.folder.last, self.learner.weights, card)
        if better:
            save_model(self.folder.best, self.learner.weights, card)
        self.folder.write_history(self.state.history)
        self.folder.write_events(row, self.state.step)
        self.folder.save_state(self.learner.tensors(), self.state)

    def _restore(self, tensors: dict[str, Any], state: State) -> None:
        if state.images != self.state.images:
            raise ValueError(
                f"{self.folder.path} was trained on other images: give it the same --data, in the "
                "same order, or start a new run (--init takes its weights)"
            )
        if state.models != self.state.models:
            raise ValueError(
                f"{self.folder.path} has another initial model or other teachers: give it the same "
                "--init and --teacher as before, in the same order, or start a new run"
            )
        self.learner.restore(tensors)
        self.state = state

    def _card(self, row: Row) -> ModelCard:
        config = self.config
        told: dict[str, Any] = {"train": described(self.train_stores)}
        told["cell_diameter"] = self.diameter
        if self.initial is not None:
            told["initial"] = inherited(self.initial, self.anew)
        if self.learner.teachers is not None:
            told["teachers"] = [inherited(card) for card in self.learner.teachers.cards]
        return ModelCard(
            name=self.folder.path.name,
            licence=config.licence,
            model=config.model,
            normalize=config.normalize,
            targets=config.targets,
            decode=config.decode,
            calibration=calibration_left(self.initial, config, self.state.step),
            predict=config.predict if self.state.step else self.looks,
            data=told,
            scores={k: v for k, v in row.items() if k.startswith("val_") or k == "epoch"},
        )

    def _tell(self, step: int, loss: float, row: Row | None = None) -> None:
        if self.progress is None:
            return
        seconds, share = self._seconds(), self._own_share()
        self.progress(
            Status(
                epoch=self.state.epoch,
                epochs=self.settings.epochs,
                step=step,
                steps=self.steps,
                loss=loss,
                seconds=seconds,
                seconds_left=seconds * (1 - share) / share if share else float("inf"),
                row=row,
            )
        )


def _with_statistics(config: Config, stores: Sequence[Store]) -> Config:
    """Fill in the mean and deviation of the training images where the settings ask for them."""
    if config.normalize.method != "dataset" or config.normalize.mean:
        return config
    channels = config.model.in_channels
    images = (as_taken(store.image(i), channels) for store in stores for i in range(len(store)))
    return config.model_copy(update={"normalize": fit(images, config.normalize)})
