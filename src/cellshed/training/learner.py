"""What learns: a network, its optimiser and its averaged weights, a step at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from cellshed.batches import Batch
from cellshed.model.panoptic import PanopticNet, build_model
from cellshed.settings import Config
from cellshed.training.initial import take_weights
from cellshed.training.losses import head_losses, loss_weights, taught_losses
from cellshed.training.optimizers import AveragedWeights, build_optimizer, clip_gradients
from cellshed.training.teachers import Teachers


class _Logits(nn.Module):
    """The network without the heads' last activation, as the losses want it."""

    def __init__(self, net: PanopticNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.net.logits(image)


class Learner:
    """A network that learns from batches.

    Args:
        config: model and training matter.
        accelerator: device, precision and processes.
        teachers: whose maps it learns beside the labels.
    """

    def __init__(self, config: Config, accelerator: Accelerator, teachers: Teachers | None) -> None:
        self.settings = config.training
        self.accelerator = accelerator
        self.teachers = teachers
        torch.manual_seed(self.settings.seed)
        self.net: PanopticNet = build_model(config.model).to(memory_format=torch.channels_last)
        self._factors = loss_weights(config.model.heads, self.settings)

    def start(self, init: Path | None) -> list[str]:
        """Get ready for steps; return the parts that don't start from `init`'s weights."""
        anew = [] if init is None else take_weights(self.net, init)
        self.net.to(self.accelerator.device)
        optimizer = build_optimizer(self.net, self.settings)
        self._model, self._optimizer = self.accelerator.prepare(_Logits(self.net), optimizer)
        self._average = AveragedWeights(self.net, self.settings.ema) if self.settings.ema else None
        return anew

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """Take one step; return the losses: all, and each head's.

        Raises:
            FloatingPointError: the loss isn't finite.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        device = self.accelerator.device
        image = batch["image"].to(device, memory_format=torch.channels_last)
        targets = {name: t.to(device) for name, t in batch["targets"].items()}
        weights = batch["pixel_weights"]
        losses = self._losses(image, targets, None if weights is None else weights.to(device))
        total = torch.stack([self._factors[name] * loss for name, loss in losses.items()]).sum()
        values = {"loss": total.item()} | {f"loss_{k}": v.item() for k, v in losses.items()}
        if not np.isfinite(values["loss"]):
            raise FloatingPointError(f"the loss is {values['loss']}")
        self._optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(total)
        self.accelerator.unscale_gradients()
        clip_gradients(self.net.parameters(), self.settings)
        self._optimizer.step()
        if self._average is not None:
            self._average.update(self.net)
        return values

    def _losses(
        self, image: Tensor, targets: dict[str, Tensor], pixel_weights: Tensor | None
    ) -> dict[str, Tensor]:
        """Return each head's loss, by labels and teachers."""
        with self.accelerator.autocast():
            logits = self._model(image)
            maps = self.teachers(image) if self.teachers else {}
        losses = head_losses(logits, targets, self.settings, pixel_weights)
        return taught_losses(losses, logits, maps, self.settings) if maps else losses

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights to keep: averaged, where they are."""
        return self._average.shadow if self._average is not None else self.net.state_dict()

    @contextmanager
    def at_rest(self) -> Iterator[PanopticNet]:
        """Lend the network with the weights to keep, for inference."""
        own = {k: v.clone() for k, v in self.net.state_dict().items()} if self._average else {}
        if self._average is not None:
            self.net.load_state_dict(self._average.shadow)
        self.net.eval()
        try:
            yield self.net
        finally:
            self.net.train()
            if self._average is not None:
                self.net.load_state_dict(own)

    def tensors(self) -> dict[str, Any]:
        """Return all that further steps depend on."""
        tensors = {
            "net": self.net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self._average is not None:
            tensors["average"] = self._average.state_dict()
        if self.accelerator.scaler is not None:
            tensors["scaler"] = self.accelerator.scaler.state_dict()
        return tensors

    def restore(self, tensors: dict[str, Any]) -> None:
        """Go back to where `tensors` was asked."""
        self.net.load_state_dict(tensors["net"])
        self._optimizer.load_state_dict(tensors["optimizer"])
        torch.set_rng_state(tensors["random"])
        if self._average is not None:
            self._average.load_state_dict(tensors["average"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(tensors["scaler"])
