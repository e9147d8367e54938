"""A stage 1 that is small and knows nothing, and a pair for it to look at."""

import torch

from twohands.geometry.camera import Camera
from twohands.regress.network import RegressorConfig
from twohands.schema import HandPair

TINY = RegressorConfig(
    trunk="residual", crop_px=32, stem=8, widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), align_widths=(8, 8, 8, 8), align_depths=(1, 1, 1, 1),
    prior_width=8, width=24, heads=2, depth=1, pyramid=8, hidden=16,
)  # fmt: skip
CAMERA = Camera(torch.tensor([200.0, 200.0]), torch.tensor([80.0, 64.0]))
PAIR = HandPair(
    torch.tensor([[20.0, 30, 70, 90], [80.0, 30, 130, 90]]), torch.tensor([[0.0, -1], [0.0, -1]]), torch.ones(2, dtype=torch.bool)
)
