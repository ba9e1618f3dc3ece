"""Heads: from the pyramid's map to one target's logits at full resolution."""

from torch import Tensor, nn
from torch.nn import functional as F

from cellshed.model.blocks import EPSILON, conv1x1, conv3x3, init_glorot, make_norm, upsample
from cellshed.model.enlarge import EnlargedBatchNorm, EnlargedConv, EnlargedReluLinear
from cellshed.settings import ModelSettings


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
        factor = stride**2 if self.finish == "shuffle" else 1
        # From the second on, a convolution is behind a doubling.
        self.convs = nn.ModuleList([conv3x3(source, width)])
        self.convs.extend(EnlargedConv(width, width, 3, padding=1) for _ in range(1, doublings))
        self.norms = nn.ModuleList(
            nn.Sequential(make_norm(settings.norm, width), nn.ReLU())
            if settings.head_relu
            else nn.Identity()
            for _ in self.convs
        )
        self.hidden = conv1x1(width, hidden)
        if doublings and settings.norm != "group":
            self.hidden_norm: nn.Module = EnlargedBatchNorm(hidden, eps=EPSILON)
            self.last: nn.Module = EnlargedReluLinear(hidden, channels * factor, 1)
        else:
            self.hidden_norm = make_norm(settings.norm, hidden)
            self.last = conv1x1(hidden, channels * factor)
        init_glorot(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, channels, H, W) of a pyramid map (N, source, H / s, W / s)."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x))
        # The 1x1 convolution commutes with the last doubling: before it, it costs a quarter.
        x = self.hidden(x)
        if isinstance(self.last, EnlargedReluLinear):
            x = self.last(self.hidden_norm(x))
        else:
            x = upsample(x) if self.doublings else x
            x = self.last(F.relu(self.hidden_norm(x)))
        if self.finish == "shuffle":
            return F.pixel_shuffle(x, self.stride)
        return upsample(x, self.stride)
