import torch
from pairs import random_hands

from twohands.geometry.rotations import geodesic_angle_rad, matrix_to_rotvec, rotvec_to_matrix
from twohands.hands.mirror import mirror_parameters
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.refine.state import PairFrame, StateScale, pack, posed, swap_hands, unpack


def _same_hands(a: HandParameters, b: HandParameters, tolerance: float = 1e-5) -> bool:
    turned = geodesic_angle_rad(rotvec_to_matrix(a.pose), rotvec_to_matrix(b.pose)).max() < 2e-3
    places = torch.allclose(a.shape, b.shape, atol=tolerance) and torch.allclose(a.translation_m, b.translation_m, atol=tolerance)
    return bool(turned) and places


def test_unpack_inverts_pack_in_any_frame(hand: HandModel) -> None:
    hands, others = random_hands(16, 0), random_hands(16, 1)
    for frame in (PairFrame.of(hand, hands), PairFrame.of(hand, others)):
        assert _same_hands(unpack(hand, pack(hand, hands, frame), frame), hands)


def test_posed_state_is_the_posed_hands(hand: HandModel) -> None:
    hands = random_hands(4, 2)
    frame = PairFrame.of(hand, hands)
    expected = hand.pose_hands(hands).keypoints()
    torch.testing.assert_close(posed(hand, pack(hand, hands, frame), frame).keypoints(), expected, atol=1e-5, rtol=0)


def test_mirrored_and_swapped_hands_are_the_state_with_hands_exchanged(hand: HandModel) -> None:
    hands, seen = random_hands(16, 3), random_hands(16, 4)
    mirrored, mirrored_seen = mirror_parameters(hands), mirror_parameters(seen)
    state = pack(hand, hands, PairFrame.of(hand, seen))
    mirrored_state = pack(hand, mirrored, PairFrame.of(hand, mirrored_seen))
    torch.testing.assert_close(mirrored_state, swap_hands(state), atol=1e-5, rtol=0)


def test_state_does_not_depend_on_where_the_camera_is(hand: HandModel) -> None:
    hand, hands = hand.to(torch.float64), random_hands(8, 5).to(torch.float64)
    turn = rotvec_to_matrix(torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64))
    rest = hand.with_shape(hands.shape).joints_rest_m[:, :, 0]
    wrist = torch.einsum("ij,bhjk->bhik", turn, rotvec_to_matrix(hands.pose[:, :, 0]))
    pose = torch.cat([matrix_to_rotvec(wrist)[:, :, None], hands.pose[:, :, 1:]], 2)
    place = (rest + hands.translation_m) @ turn.T + rest.new_tensor([0.1, 0.2, 0.3]) - rest
    moved = HandParameters(pose, hands.shape, place)
    here, there = (pack(hand, h, PairFrame.of(hand, h)) for h in (hands, moved))
    torch.testing.assert_close(there, here, atol=1e-5, rtol=0)


def test_scale_restores_what_it_normalises() -> None:
    scale = StateScale()
    difference = torch.randn(64, 2, 17, 13) * 3
    scale.fit(difference)
    state, condition = torch.randn(5, 2, 17, 13), torch.randn(5, 2, 17, 13)
    torch.testing.assert_close(scale.restore(scale.normalise(state, condition), condition), state)
    assert bool((scale.deviation[:16, 6:] == 1).all())
