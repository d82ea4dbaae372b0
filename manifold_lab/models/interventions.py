"""What can be done to a bottleneck's output besides its activation: noise of a given dose, and an attenuated half.

Each is linear or adds what no layer can take back, so that a training separates the causes of what ReLU6 costs there:
noise loses information without any nonlinearity; a gain attenuates gradients and loses nothing.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lab.core.random_streams import stream_seed

MOMENTUM = 0.1
"""Of the running variance, as torch's batch norm has it."""


class ChannelNoise(nn.Module):
    """Adds Gaussian noise whose variance is a fixed multiple of each channel's own, in training and in evaluation.

    The channel's variance is the batch's in training, without a gradient into it, and the running one in evaluation.
    Draws come from a generator of the module's own, made anew for every forward pass from `seed` and the number of the
    pass: a resumed training draws what an uninterrupted one draws, and no other generator is moved. In evaluation
    passes are counted from the last call of `eval()`, so that every evaluation draws the same.

    Args:
        channels: of the input.
        ratio: variance of the noise over that of the channel.
        shared: one draw per image and channel, the same at every position.
        seed: of the module's generator.
    """

    whole_batch = True
    """Its statistics and draws are those of the whole batch, which must be in one process."""

    def __init__(self, channels: int, ratio: float, shared: bool = False, seed: int = 0):
        super().__init__()
        self.ratio, self.shared = ratio, shared
        self.variance: Tensor
        self.seed: Tensor
        self.passes: Tensor
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("seed", torch.tensor(seed))
        self.register_buffer("passes", torch.tensor(0))
        self.evaluations = 0

    def train(self, mode: bool = True) -> "ChannelNoise":
        """Set the mode; evaluation begins with its first draw again."""
        self.evaluations = 0
        return super().train(mode)

    def forward(self, y: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Add the noise."""
        if y.is_meta:
            return y
        batch, channels, height, width = y.shape
        # channels last and in one piece, which torch fills several times as fast as any other layout
        noise = y.new_empty((batch, 1, 1, channels) if self.shared else (batch, height, width, channels))
        noise = noise.normal_(generator=self._generator(y.device)).movedim(-1, 1)
        scale = (self.ratio * self._variance(y)).sqrt().to(y.dtype)
        return y + noise * scale.view(1, -1, 1, 1)

    def _generator(self, device: torch.device) -> torch.Generator:
        if self.training:
            name, number = "training", int(self.passes)
            self.passes += 1
        else:
            name, number = "evaluation", self.evaluations
            self.evaluations += 1
        return torch.Generator(device).manual_seed(stream_seed(int(self.seed), name, number))

    @torch.no_grad()
    def _variance(self, y: Tensor) -> Tensor:
        if not self.training:
            return self.variance
        rows = y.float().movedim(1, -1).flatten(0, 2)
        variance = (rows - rows.mean(0)).square().mean(0)  # a third of the time of `var`
        self.variance.lerp_(variance, MOMENTUM)
        return variance

    def extra_repr(self) -> str:
        """Dose and kind, for print(model)."""
        return f"{self.ratio:g} of the variance, {'shared' if self.shared else 'independent'} over positions"


class ChannelGain(nn.Module):
    """Multiplies the first half of the channels by a factor, the others by 1: linear and injective."""

    def __init__(self, channels: int, gain: float):
        super().__init__()
        self.gains: Tensor
        self.register_buffer("gains", torch.tensor([gain] * (channels // 2) + [1.0] * (channels - channels // 2)))

    def forward(self, y: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Multiply."""
        return y * self.gains.to(y.dtype).view(1, -1, 1, 1)
