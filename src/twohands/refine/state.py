"""Two hands as the numbers that diffusion works on. Sole owner of the offsets: nothing else knows which number is what.

**Frame.** The frame belongs to the hands as they came in (the condition X_c), and the clean and the noisy hands are written in it too, so
nothing is lost and nothing has to be guessed to come back. Its origin lies midway between the wrists, its x axis runs from the left wrist
to the right one, and its y axis is the part across x of what both hands call "forward and up". Mirroring and swapping the hands mirrors
this frame (F -> M F M with M = diag(-1, 1, 1)). The left hand's numbers are then written mirrored, as those of a right hand, so that in
this state the mirrored and swapped pair is the same tensor with its two hands exchanged: the law that the denoiser keeps exactly.

**Tokens.** Per hand 17 tokens of 13 numbers: the 16 MANO joints (6D rotation relative to the parent; the wrist's relative to the frame),
then one token of placement (wrist position in metres) and shape (10 coefficients). Unused numbers are zero.

**Scale.** What is diffused is the difference from X_c in units of the typical error of stage 1 (`StateScale`, kept with the weights): at
the noisiest step the hands are X_c plus errors of a plausible size, never hands at random. X_0 keeps its meaning, since X_c is known.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from twohands.geometry.rotations import matrix_to_rotvec, matrix_to_six_d, rotvec_to_matrix, six_d_to_matrix
from twohands.hands.mirror import left_as_right_points, left_as_right_rotation, mirror_points
from twohands.hands.model import HandModel, PosedHands
from twohands.hands.parameters import HandParameters
from twohands.record import Record

JOINT_TOKENS = 16
TOKENS = JOINT_TOKENS + 1
WIDTH = 13
"""Numbers per token; the placement token uses all of them, a joint token the first six."""

_FORWARD_UP = (-0.6, 0.5, 0.6)
"""A direction fixed in the resting right hand (fingers, back, thumb side), generic so that usual poses of two hands do not cancel it."""


def rest_wrists_m(model: HandModel, shape: Float[Tensor, "*batch hand 10"]) -> Float[Tensor, "*batch hand 3"]:
    """Where the wrists lie before the translation is added: J0 of the shaped hand."""
    return model.with_shape(shape).joints_rest_m[..., 0, :]


def _direction(vector: Float[Tensor, "*batch 3"], otherwise: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Unit vector, or another where it has no length to speak of."""
    return torch.where(vector.norm(dim=-1, keepdim=True) > 1e-6, functional.normalize(vector, dim=-1), otherwise)


@dataclass(frozen=True)
class PairFrame(Record):
    """The frame of a pair of hands: x_camera = R_camera_pair @ x_pair + origin_m."""

    R_camera_pair: Float[Tensor, "*batch 3 3"]
    origin_m: Float[Tensor, "*batch 3"]

    @staticmethod
    def of(model: HandModel, parameters: HandParameters) -> "PairFrame":
        """The frame that these hands define. Mirror-consistent; it jumps only where the wrists coincide or both hands point along the line
        between the wrists, which does no harm, as one frame serves one pair throughout."""
        wrists = rest_wrists_m(model, parameters.shape) + parameters.translation_m
        R_wrist = rotvec_to_matrix(parameters.pose[..., 0, :])
        right_way = torch.tensor(_FORWARD_UP, dtype=wrists.dtype, device=wrists.device)
        ahead = (R_wrist @ torch.stack([mirror_points(right_way), right_way])[..., None])[..., 0].sum(-2)
        x_axis = _direction(wrists[..., 1, :] - wrists[..., 0, :], wrists.new_tensor([1.0, 0.0, 0.0]))
        spare = wrists.new_tensor([0.0, 1.0, 0.0]) - x_axis[..., 1:2] * x_axis
        y_axis = _direction(ahead - (ahead * x_axis).sum(-1, keepdim=True) * x_axis, _direction(spare, wrists.new_tensor([0.0, 0.0, 1.0])))
        return PairFrame(torch.stack([x_axis, y_axis, torch.linalg.cross(x_axis, y_axis)], -1), wrists.mean(-2))

    def directions_to_pair(self, directions: Float[Tensor, "*batch hand some 3"]) -> Float[Tensor, "*batch hand some 3"]:
        """Camera-frame directions at each hand in the pair's frame (mirrored for the left one)."""
        return left_as_right_points(directions @ self.R_camera_pair[..., None, :, :])

    def points_to_pair(self, points_m: Float[Tensor, "*batch hand point 3"]) -> Float[Tensor, "*batch hand point 3"]:
        """Camera-frame points of each hand in the pair's frame (mirrored for the left one)."""
        inside = (points_m - self.origin_m[..., None, None, :]) @ self.R_camera_pair[..., None, :, :]
        return left_as_right_points(inside)


def _mean_pose(model: HandModel) -> Float[Tensor, "hand 16 3"] | float:
    """What the model adds to the stored poses (the wrist has no mean)."""
    if model.flat_hand_mean:
        return 0.0
    return functional.pad(model.data.hands_mean.unflatten(-1, (15, 3)), (0, 0, 1, 0))


def pack(model: HandModel, parameters: HandParameters, frame: PairFrame) -> Float[Tensor, "*batch hand 17 13"]:
    """Hands to state, in `frame`. `unpack` is its inverse (rotation vectors longer than pi come back as the shorter one)."""
    wrists = rest_wrists_m(model, parameters.shape) + parameters.translation_m
    rotations = rotvec_to_matrix(parameters.pose + _mean_pose(model))
    wrist = frame.R_camera_pair.transpose(-1, -2)[..., None, :, :] @ rotations[..., 0, :, :]
    # The wrist's rotation takes a mirrored resting hand to a mirrored frame, so it mirrors like the others.
    rotations = left_as_right_rotation(torch.cat([wrist[..., None, :, :], rotations[..., 1:, :, :]], -3))
    joints = functional.pad(matrix_to_six_d(rotations), (0, WIDTH - 6))
    place = torch.cat([frame.points_to_pair(wrists[..., None, :])[..., 0, :], parameters.shape], -1)
    return torch.cat([joints, place[..., None, :]], -2)


def _parts(model: HandModel, state: Tensor, frame: PairFrame) -> tuple[Tensor, Tensor, Tensor]:
    """Rotations (*b, 2, 16, 3, 3), shape (*b, 2, 10) and translation (*b, 2, 3) of a state, in the camera frame."""
    rotations = left_as_right_rotation(six_d_to_matrix(state[..., :JOINT_TOKENS, :6]))
    wrist = frame.R_camera_pair[..., None, :, :] @ rotations[..., 0, :, :]
    rotations = torch.cat([wrist[..., None, :, :], rotations[..., 1:, :, :]], -3)
    shape = shape_of(state)
    place = left_as_right_points(state[..., JOINT_TOKENS:, :3])[..., 0, :]
    wrists = place @ frame.R_camera_pair.transpose(-1, -2) + frame.origin_m[..., None, :]
    return rotations, shape, wrists - rest_wrists_m(model, shape)


def unpack(model: HandModel, state: Float[Tensor, "*batch hand 17 13"], frame: PairFrame) -> HandParameters:
    """State to hands. Six numbers become a rotation by Gram-Schmidt, so any state gives hands."""
    rotations, shape, translation_m = _parts(model, state, frame)
    return HandParameters(matrix_to_rotvec(rotations) - _mean_pose(model), shape, translation_m)


def posed(model: HandModel, state: Float[Tensor, "*batch hand 17 13"], frame: PairFrame) -> PosedHands:
    """State to posed hands without the detour over rotation vectors, whose gradient is poor near pi: for energies and losses."""
    rotations, shape, translation_m = _parts(model, state, frame)
    return model.with_shape(shape).with_pose(rotations, translation_m)


def swap_hands(state: Float[Tensor, "*batch hand 17 width"]) -> Float[Tensor, "*batch hand 17 width"]:
    """The mirrored and swapped pair: in this state, the hands exchanged."""
    return state.flip(-3)


class StateScale(nn.Module):
    """Typical error of each number of the state (standard deviation of X_0 - X_c over training pairs), shared by both hands."""

    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("deviation", torch.ones(TOKENS, WIDTH))

    def normalise(self, state: Float[Tensor, "*batch hand 17 13"], condition: Float[Tensor, "*batch hand 17 13"]) -> Tensor:
        """Difference from the condition in standard deviations; numbers that no token uses stay zero."""
        return (state - condition) / self.deviation

    def restore(self, scaled: Float[Tensor, "*batch hand 17 13"], condition: Float[Tensor, "*batch hand 17 13"]) -> Tensor:
        """The inverse of `normalise`."""
        return condition + scaled * self.deviation

    @torch.no_grad()
    def fit(self, difference: Float[Tensor, "batch hand 17 13"]) -> None:
        """Sets the scale from differences X_0 - X_c. Unused numbers keep 1."""
        spread = difference.square().mean((0, 1)).sqrt()
        self.deviation.copy_(torch.where(used_numbers(), spread.clamp_min(1e-4), torch.ones_like(spread)))


def shape_of(state: Float[Tensor, "*batch hand 17 13"]) -> Float[Tensor, "*batch hand 10"]:
    """Shape coefficients of a state."""
    return state[..., JOINT_TOKENS, 3:WIDTH]


def shape_numbers() -> Tensor:
    """Bool (17, 13): the shape coefficients."""
    shape = torch.zeros(TOKENS, WIDTH, dtype=torch.bool)
    shape[JOINT_TOKENS, 3:WIDTH] = True
    return shape


def place_numbers() -> Tensor:
    """Bool (17, 13): where the wrists are."""
    place = torch.zeros(TOKENS, WIDTH, dtype=torch.bool)
    place[JOINT_TOKENS, :3] = True
    return place


def used_numbers() -> Tensor:
    """Bool (17, 13): which numbers of the state mean something."""
    used = torch.zeros(TOKENS, WIDTH, dtype=torch.bool)
    used[:JOINT_TOKENS, :6] = True
    used[JOINT_TOKENS] = True
    return used
