"""Optimisers, gradient clipping, learning-rate schedules and averaged weights."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cellshed.settings import TrainingSettings

WITHOUT_DECAY = ("keras-adam",)
"""Optimisers that know no weight decay."""


class KerasAdam(torch.optim.Optimizer):
    """Adam as Keras 2.8 computes it.

    step = lr * sqrt(1 - b2**t) / (1 - b1**t) * m / (sqrt(v) + eps): eps is added before the bias
    correction, not after it as in torch.optim.Adam. With gradients clipped to 1e-3 per variable
    their entries are near eps = 1e-7, so the difference shows.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            self._step_group(group)

    def _step_group(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        states = [self._state_of(p) for p in params]
        for state in states:
            state["step"] += 1
        t = int(states[0]["step"])
        (b1, b2), grads = group["betas"], [p.grad for p in params]
        means, squares = [s["mean"] for s in states], [s["square"] for s in states]
        torch._foreach_lerp_(means, grads, 1 - b1)
        torch._foreach_mul_(squares, b2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - b2)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_add_(scales, group["eps"])
        rate = group["lr"] * math.sqrt(1 - b2**t) / (1 - b1**t)
        torch._foreach_addcdiv_(params, means, scales, -rate)

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        return state


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return the optimiser that the settings name, over the model's trainable parameters.

    Weight decay acts on weights alone, not on biases and the scales of norms.
    """
    params = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer in WITHOUT_DECAY:
        if settings.weight_decay:
            raise ValueError(
                f"training.weight_decay = {settings.weight_decay}: keras-adam has none; "
                "set it to 0, or training.optimizer to adamw"
            )
        return KerasAdam(params, settings.lr)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.lr, settings.momentum, nesterov=True)
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, settings.lr)
    return torch.optim.AdamW(groups, settings.lr)


def clip_gradients(parameters: Iterable[Tensor], settings: TrainingSettings) -> None:
    """Clip gradients by the settings' rule, all together or each parameter's by itself."""
    if settings.clip == "variable":
        clip_each_variable(parameters, settings.clip_norm)
    elif settings.clip == "global":
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)


def clip_each_variable(parameters: Iterable[Tensor], norm: float) -> None:
    """Scale each parameter's gradient to an L2 norm of at most `norm`, as Keras' clipnorm does."""
    grads = [p.grad for p in parameters if p.grad is not None]
    norms = torch._foreach_norm(grads)
    torch._foreach_mul_(grads, [torch.clamp(norm / n.clamp_min(1e-30), max=1.0) for n in norms])


def learning_rate(settings: TrainingSettings, step: int, epoch: int, done: float) -> float:
    """Return the learning rate of a step.

    Args:
        settings: schedule, lr, decay, warmup_steps.
        step: steps taken so far in the run.
        epoch: epochs finished so far.
        done: share of the run that is over, in [0, 1].
    """
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    return settings.lr * warmup * _SCHEDULES[settings.schedule](settings, epoch, done)


def _one_cycle(done: float) -> float:
    """Rise from 1/25 to 1 over the first 30 %, then fall to 1/1000, both along a cosine."""
    if done < 0.3:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * done / 0.3)) / 2
    return 1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * (done - 0.3) / 0.7)) / 2


_SCHEDULES: dict[str, Callable[[TrainingSettings, int, float], float]] = {
    "constant": lambda settings, epoch, done: 1.0,
    "exponential": lambda settings, epoch, done: settings.decay**epoch,
    "cosine": lambda settings, epoch, done: (1 + math.cos(math.pi * done)) / 2,
    "one-cycle": lambda settings, epoch, done: _one_cycle(done),
}


class AveragedWeights:
    """Exponential moving average of a model's parameters; buffers are copied as they are.

    The decay grows from 0.1 to its full value over the first steps, min(decay, (1+t)/(10+t)),
    so that short runs aren't held back by the random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the model's present weights into the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        names = {name for name, _ in model.named_parameters()}
        state = model.state_dict()
        torch._foreach_lerp_(
            [self.shadow[n] for n in names], [state[n].detach() for n in names], 1 - decay
        )
        for name in state.keys() - names:
            self.shadow[name].copy_(state[name])

    def state_dict(self) -> dict[str, Any]:
        """Return what load_state_dict needs to go on."""
        return {"steps": self.steps, "shadow": self.shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved average."""
        self.steps = int(state["steps"])
        for name, value in state["shadow"].items():
            self.shadow[name].copy_(value)
