"""What the picture says of the hands that came in, and how far from it a guess may go.

Stage 1 says of each keypoint how probable it is that its place in the picture is right to a tenth of the hand's size. Taken as the spread of a
Laplace error this is a length, the only one that tells whether a move across the line of sight is a correction or a mistake.
"""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters

_TENTH = 0.1
_LEAST_SURE = 0.5
"""Who is less sure than this gives no leave to go farther: not to know where a joint is does not make another place more probable."""
_SMALLEST_HAND_M = 0.05
_BOX_OF_SIZE = 1.3
"""The diagonal of a hand's keypoints is about so many times its size."""


@dataclass(frozen=True)
class EvidenceConfig:
    """How much the picture weighs against a guess. Chosen on pairs that are not of the benchmark."""

    hold_both: float = 1.0
    """Share of a common move of both hands across the line of sight that is taken back: nothing that the hands know of each other speaks for it."""
    hold_deep: float = 1.0
    """Share of a common move of both hands along the line of sight that is taken back: it would make them larger or smaller in the picture."""
    hold_each: float = 0.35
    """Share of a move of one hand against the other across the line of sight that is taken back."""
    trust: float = 8.0
    """Keypoints may move, across the line of sight and on average over a hand, by so many error scales of theirs. A guess that goes farther is
    believed less, and not at all from twice as far: a network that contradicts the picture so much does not know these hands."""
    deep_m: float = 0.012
    """Overlap of two spheres from which that much is allowed. Of hands that lie less deep in each other it is proportionally less: that they
    all but touch says little against them."""
    farthest: float = 6.0
    """Hands that a guess and the projection after it have moved by more scales than this are projected from where they were, if that moves
    them less."""


def log_error_scale(confidence: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Logarithm of the Laplace error scale, in tenths of a hand, whose probability to stay below a tenth is the confidence."""
    return -(-(1 - confidence.clamp(0.01, 0.999)).log()).log()


def error_scale_m(
    keypoints_m: Float[Tensor, "batch hand 21 3"], confidence: Float[Tensor, "batch hand 21"]
) -> Float[Tensor, "batch hand 21"]:
    """Scale of each keypoint's error across the line of sight, as far as it matters here."""
    ray = functional.normalize(keypoints_m.mean(2, keepdim=True), dim=-1)
    flat = across(keypoints_m, ray)
    size_m = (flat.amax(2) - flat.amin(2)).norm(dim=-1, keepdim=True).clamp_min(_SMALLEST_HAND_M) / _BOX_OF_SIZE
    return _TENTH * log_error_scale(confidence.clamp_min(_LEAST_SURE)).exp() * size_m


def across(vectors: Float[Tensor, "*batch 3"], ray: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "*batch 3"]:
    """What of vectors lies across a direction."""
    return vectors - (vectors * ray).sum(-1, keepdim=True) * ray


def held(
    model: HandModel, given: HandParameters, found: HandParameters, confidence: Float[Tensor, "batch hand 21"], config: EvidenceConfig
) -> HandParameters:
    """The hands that were found, shifted back to where the given ones are in the picture, and both together to their distance, the sure keypoints
    counting most. In the camera's frame."""
    here, there = (model.pose_hands(hands).joints_and_tips() for hands in (given, found))
    weight = error_scale_m(here, confidence).pow(-2)[..., None]
    back = ((here - there) * weight).sum(2) / weight.sum(2)
    whole = back
    back = across(back, functional.normalize(here.mean(2), dim=-1))
    weight = weight.sum(2)

    def common(move: Tensor) -> Tensor:
        return (move * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)

    both = common(back)
    shift = config.hold_both * both + config.hold_deep * common(whole - back) + config.hold_each * (back - both)
    return replace(found, translation_m=found.translation_m + shift)


def moved_scales(
    model: HandModel, given: HandParameters, found: HandParameters, confidence: Float[Tensor, "batch hand 21"], camera_frame: bool
) -> Float[Tensor, "batch"]:
    """How far keypoints have moved across the line of sight (any way, if there is none), in units of their error scales: the mean of the hand that
    moved more."""
    here, there = (model.pose_hands(hands).joints_and_tips() for hands in (given, found))
    move = there - here
    if camera_frame:
        move = across(move, functional.normalize(here, dim=-1))
    return (move.norm(dim=-1) / error_scale_m(here, confidence)).mean(2).amax(1)


def share_believed(moved: Float[Tensor, "batch"], deepest_m: Float[Tensor, "batch"], config: EvidenceConfig) -> Float[Tensor, "batch"]:
    """How much of its way a guess may go that moves keypoints by so many error scales, of hands that overlap by so much: 1 to 0."""
    allowed = config.trust * (deepest_m / config.deep_m).clamp(0, 1)
    return (2 - moved / allowed.clamp_min(1e-6)).clamp(0, 1)
