"""A network whose maps come one after another instead of by name, as files of networks have it."""

from collections.abc import Sequence

from torch import Tensor, nn


class MapSequence(nn.Module):
    """A network's maps in a given order.

    Args:
        net: image (N, C, H, W) -> maps by name.
        names: in the order of the result.
    """

    def __init__(self, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.net = net
        self.names = tuple(names)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of x."""
        maps = self.net(x)
        return tuple(maps[name] for name in self.names)
