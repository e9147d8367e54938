"""Somebody whose hands are followed."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.schema import HandPair
from twohands.video.hand import FollowedHand, pair_at, roomy
from twohands.video.sides import Sides


@dataclass
class FollowedPerson:
    """Somebody whose hands are followed, or expected back."""

    number: int
    sides: Sides
    hands: list[FollowedHand | None] = field(default_factory=lambda: [None, None])
    apart: bool = False
    """Both hands were seen last with room between them: one that is missing since then went elsewhere than behind the other."""
    seen_s: float = 0.0
    place_xy: Float[Tensor, "2"] = field(default_factory=lambda: torch.zeros(2))
    size_px: float = 1.0

    def rooms(self) -> Float[Tensor, "hand"]:
        """How much larger than its keypoints' box each hand's is; an absent one's is kept."""
        return torch.tensor([1.0 if hand is None else hand.room for hand in self.hands])

    def may_hide(self, side: int) -> bool:
        """Whether this hand is behind another one, or may be there though nobody has seen it yet."""
        hand, other = self.hands[side], self.hands[1 - side]
        return hand.hidden if hand is not None else self.sides.met or (other is not None and other.sees_other and not self.apart)

    def exchange(self) -> None:
        """Left and right change places. That a hand showed the other one's side then says nothing any more."""
        self.hands.reverse()
        for hand in self.hands:
            if hand is not None:
                hand.own_odds = 0.0

    def expected_pair(self, time_s: float) -> HandPair:
        """What stage 1 is asked: boxes about the keypoints, and directions, where they are expected."""
        left, right = self.hands
        known = [hand for hand in (left or right, right or left) if hand is not None]
        xy, present = torch.stack([hand.expected_xy(time_s) for hand in known]), torch.tensor([left is not None, right is not None])
        return roomy(pair_at(xy, present), self.rooms())
