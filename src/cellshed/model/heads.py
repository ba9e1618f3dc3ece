"""Heads: from the pyramid's map to one target's logits at full resolution."""

from torch import Tensor, nn
from torch.nn import functional as F

from cellshed.config import ModelSettings
from cellshed.model.blocks import conv1x1, conv3x3, init_glorot, make_norm, upsample


class Head(nn.Module):
    """A semantic head: 3x3 convolutions that climb to full resolution, then two 1x1.

    The reference's form is `head_relu=False, head_stride=1`: from a map at stride 2**n, n times
    a linear 3x3 convolution and a bilinear doubling, then 1x1 convolution, batch norm, ReLU and
    1x1 convolution, at full resolution. A head that ends at a coarser stride enlarges its logits
    from there, or gives each pixel of a stride's cell channels of its own (Shi et al. 2016).

    Args:
        source: channels of the pyramid's map.
        channels: channels of the logits.
        level: log2 of the stride of the pyramid's map.
        settings: of the model; those that begin with head_, and norm.
    """

    def __init__(self, source: int, channels: int, level: int, settings: ModelSettings) -> None:
        super().__init__()
        stride, width, hidden = settings.head_stride, settings.head_width, settings.head_hidden
        doublings = level - (stride.bit_length() - 1)
        if doublings < 0:
            raise ValueError(
                f"head_stride {stride} is coarser than the pyramid's finest, {2**level}: "
                f"use {2**level} or less"
            )
        self.stride = stride
        self.doublings = doublings
        self.finish = settings.head_finish
        steps = max(doublings, 1)
        self.convs = nn.ModuleList(conv3x3(width if k else source, width) for k in range(steps))
        self.norms = nn.ModuleList(
            nn.Sequential(make_norm(settings.norm, width), nn.ReLU())
            if settings.head_relu
            else nn.Identity()
            for _ in range(steps)
        )
        self.hidden = conv1x1(width, hidden)
        self.hidden_norm = make_norm(settings.norm, hidden)
        factor = stride**2 if self.finish == "shuffle" else 1
        self.last = conv1x1(hidden, channels * factor)
        init_glorot(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, channels, H, W) of a pyramid map (N, source, H / s, W / s)."""
        for step, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            if step < self.doublings - 1:
                x = upsample(x)
        # The 1x1 convolution commutes with the last doubling: before it, it costs a quarter.
        x = self.hidden(x)
        if self.doublings:
            x = upsample(x)
        x = self.last(F.relu(self.hidden_norm(x)))
        if self.finish == "shuffle":
            return F.pixel_shuffle(x, self.stride)
        return upsample(x, self.stride)
