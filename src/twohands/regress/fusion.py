"""The transformer that joins image and prior tokens of both hands (eq. 2)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from twohands.layers import Mlp, TransformerBlock
from twohands.regress.align import cell_centres

PAIR_GEOMETRY = 8
"""x, y of the crop's axis in the pair's view, log of the zoom, cos and sin of the roll, 1 if the other hand is there, 1 for a mirrored crop,
log tangent of the view (see crops.pair_geometry)."""


class Fusion(nn.Module):
    """F = TransEnc(<F_i, F_p>)[0:l]: all tokens of both hands attend to one another; the first l of each hand, its image tokens, are kept.

    Every token knows where it lies in its crop, where the crop lies in the pair's common view, whose hand it is, and whether it is image or
    prior. The tokens of an absent hand are looked at by nobody."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.place = Mlp(2, width, width)
        self.geometry = Mlp(PAIR_GEOMETRY, width, width)
        self.kind = nn.Parameter(torch.randn(2, width) * 0.02)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, expansion=3) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        image_tokens: Float[Tensor, "pair hand token width"],
        prior_tokens: Float[Tensor, "pair hand token width"],
        geometry: Float[Tensor, "pair hand 8"],
        present: Bool[Tensor, "pair hand"],
    ) -> Float[Tensor, "pair hand token width"]:
        pairs, hands, count, width = image_tokens.shape
        grid = round(int(count) ** 0.5)
        context = self.place(cell_centres(grid, image_tokens.device).reshape(-1, 2)) + self.geometry(geometry)[:, :, None]
        image_tokens = image_tokens + context + self.kind[0]
        prior_tokens = prior_tokens + context + self.kind[1]
        tokens = torch.cat([image_tokens, prior_tokens], 2).reshape(pairs, hands * 2 * count, width)
        # A pair without any hand would have nothing to attend to: let it look at itself, its result is not used.
        looked_at = present | ~present.any(1, keepdim=True)
        valid = looked_at[:, :, None].expand(-1, -1, 2 * count).reshape(pairs, -1)
        for block in self.blocks:
            tokens = block(tokens, valid)
        return self.norm(tokens.view(pairs, hands, 2 * count, width)[:, :, :count])
