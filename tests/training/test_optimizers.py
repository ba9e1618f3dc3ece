"""Optimisers, clipping, schedules, averaged weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cellshed.settings import TrainingSettings
from cellshed.training.optimizers import (
    AveragedWeights,
    KerasAdam,
    build_optimizer,
    clip_each_variable,
    learning_rate,
)


def _settings(**changes: object) -> TrainingSettings:
    return TrainingSettings.model_validate(changes)


def test_first_keras_adam_step_by_hand() -> None:
    # t = 1: m = 0.1 g, v = 0.001 g**2, rate = lr * sqrt(0.001) / 0.1
    parameter = nn.Parameter(torch.tensor([1.0]))
    parameter.grad = torch.tensor([1e-6])
    KerasAdam([parameter], lr=1.0).step()
    step = (0.001**0.5 / 0.1) * 1e-7 / ((0.001**0.5) * 1e-6 + 1e-7)
    assert parameter.item() == pytest.approx(1 - step, rel=1e-5)


@pytest.mark.realdata
def test_clipped_adam_follows_the_recorded_trace(reference: Path) -> None:
    trace = np.load(reference / "misc.npz")["opt/adam_clipnorm_trace"]
    first = nn.Parameter(torch.tensor([3.0, 4.0]))
    second = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = KerasAdam([first, second], lr=5e-4)
    for step, recorded in enumerate(trace):
        first.grad = torch.tensor([0.3, 0.4]) * (step + 1)
        second.grad = torch.tensor([1e-5, 2e-4]) / (step + 1)
        clip_each_variable([first, second], 1e-3)
        optimizer.step()
        ours = torch.cat([first, second]).detach().numpy()
        np.testing.assert_allclose(ours, recorded, rtol=0, atol=4e-7)


def test_each_variable_is_clipped_by_itself() -> None:
    large, small = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    large.grad, small.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.03, 0.04])
    clip_each_variable([large, small], 0.1)
    torch.testing.assert_close(large.grad, torch.tensor([0.06, 0.08]))
    torch.testing.assert_close(small.grad, torch.tensor([0.03, 0.04]))


def test_zero_gradients_stay_zero_when_clipped() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.zeros(2)
    clip_each_variable([parameter], 0.1)
    assert parameter.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "keras-adam"])
def test_every_optimizer_walks_downhill(name: str) -> None:
    net = nn.Linear(2, 1)
    optimizer = build_optimizer(net, _settings(optimizer=name, lr=1e-2))
    inputs, losses = torch.ones(4, 2), []
    for _ in range(20):
        loss = ((net(inputs) - 3) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_weight_decay_spares_biases() -> None:
    optimizer = build_optimizer(nn.Linear(2, 1), _settings(optimizer="adamw", weight_decay=0.1))
    decays = {g["params"][0].ndim: g["weight_decay"] for g in optimizer.param_groups}
    assert decays == {2: 0.1, 1: 0.0}


def test_keras_adam_refuses_weight_decay() -> None:
    with pytest.raises(ValueError, match=r"weight_decay = 0\.1"):
        build_optimizer(nn.Linear(2, 1), _settings(optimizer="keras-adam", weight_decay=0.1))


def test_schedules_at_known_places() -> None:
    def rate(schedule: str, epoch: int, done: float) -> float:
        return learning_rate(_settings(schedule=schedule, lr=1.0, decay=0.9), 100, epoch, done)

    assert rate("constant", 7, 0.9) == 1.0
    assert rate("exponential", 2, 0.5) == pytest.approx(0.81)
    assert rate("cosine", 0, 0.5) == pytest.approx(0.5)
    assert rate("one-cycle", 0, 0.0) == pytest.approx(0.04)
    assert rate("one-cycle", 0, 0.3) == pytest.approx(1.0)
    assert rate("one-cycle", 0, 1.0) == pytest.approx(1e-3)


def test_warmup_rises_in_equal_steps() -> None:
    settings = _settings(schedule="constant", lr=1.0, warmup_steps=4)
    assert [learning_rate(settings, s, 0, 0.0) for s in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_average_of_constant_weights_is_those_weights() -> None:
    net = nn.BatchNorm1d(3)
    average = AveragedWeights(net, 0.99)
    with torch.no_grad():
        net.weight.fill_(2.0)
        net.running_mean.fill_(5.0)
    for _ in range(3000):
        average.update(net)
    torch.testing.assert_close(average.shadow["weight"], torch.full((3,), 2.0))
    assert average.shadow["running_mean"].tolist() == [5.0] * 3


def test_average_by_hand_on_its_first_step() -> None:
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(0.0)
    average = AveragedWeights(net, 0.99)
    with torch.no_grad():
        net.weight.fill_(1.0)
    average.update(net)  # decay (1 + 1) / (10 + 1)
    assert average.shadow["weight"].item() == pytest.approx(9 / 11)
