"""From photo to records, with networks that know the truth: what goes in comes out, and nothing else does."""

import dataclasses
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from scenes import HEIGHT, WIDTH, Truth, blank_image, two_hands
from twohands.errors import UserError
from twohands.geometry.camera import Camera
from twohands.geometry.rotations import axis_rotation, matrix_to_rotvec, rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.model import HandModel
from twohands.people import ONE_PLACE_DISTANCE, keypoint_distance
from twohands.smaller_boxes import unseen


def test_the_truth_comes_through():
    truth = Truth([two_hands(0.2)])
    result = truth.pipeline().reconstruct(blank_image())
    assert (result.width_px, result.height_px) == (WIDTH, HEIGHT)
    (person,) = result.people
    expected = truth.model.pose_hands(truth.people[0]).mesh()
    assert person.hand_present.tolist() == [True, True]
    assert torch.allclose(person.vertices_m, expected.vertices_m, atol=1e-6)
    assert torch.allclose(person.keypoints_xy, person.camera.project(expected.keypoints_m), atol=1e-3)
    assert torch.allclose(person.box_xyxy_px[0, :2], person.keypoints_xy[0].min(0).values)
    assert ((person.score > 0) & (person.score <= 1)).all()
    assert person.camera_source == "default"
    assert person.penetration_cm3 == person.penetration_before_cm3 == 0
    assert not person.refined
    assert truth.refinements == 0, "hands that are apart are not refined"
    stages = {k: v for k, v in result.seconds.items() if k != "total"}
    assert result.seconds["total"] == pytest.approx(sum(stages.values()))


def test_stage_2_runs_only_where_hands_penetrate():
    truth = Truth([two_hands(0.07)])
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert truth.refinements == 1
    assert person.refined
    assert person.penetration_before_cm3 > 1
    assert person.penetration_cm3 == 0
    (asis,) = truth.pipeline().reconstruct(blank_image(), refine=False).people
    assert not asis.refined
    assert asis.penetration_cm3 == asis.penetration_before_cm3 == person.penetration_before_cm3


def test_a_refinement_that_does_not_help_is_not_taken():
    truth = Truth([two_hands(0.07)], refined_gap_m=0.0)
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert not person.refined
    assert person.penetration_cm3 == person.penetration_before_cm3
    assert torch.equal(person.parameters.translation_m, truth.people[0].translation_m)


@pytest.mark.parametrize("hand", [0, 1])
def test_a_single_hand_is_a_pair_with_one_absent(hand):
    truth = Truth([two_hands(0.07)], found=[(0, hand)])
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert person.hand_present.tolist() == [hand == 0, hand == 1]
    absent = 1 - hand
    assert truth.refinements == 0
    for value in (person.score, person.vertices_m, person.keypoints_m, person.parameters.pose, person.box_xyxy_px):
        assert not value[absent].any()
        assert value[hand].any()
    assert truth.asked[0].present.tolist() == [hand == 0, hand == 1]
    assert torch.isfinite(truth.asked[0].box_xyxy_px).all()


def test_no_hands_is_an_answer():
    assert Truth([two_hands(0.2)], found=[]).pipeline().reconstruct(blank_image()).people == ()
    presence = {(0, 0): 0.1, (0, 1): 0.1}
    assert Truth([two_hands(0.2)], presence=presence).pipeline().reconstruct(blank_image()).people == ()


def test_hands_that_stage_1_does_not_see_are_dropped():
    (person,) = Truth([two_hands(0.2)], presence={(0, 0): 0.2}).pipeline().reconstruct(blank_image()).people
    assert person.hand_present.tolist() == [False, True]


def test_every_person_is_returned_with_both_hands():
    truth = Truth([two_hands(0.15, x_m=-0.15), two_hands(0.15, x_m=0.2, depth_m=0.8)])
    people = truth.pipeline().reconstruct(blank_image()).people
    assert [p.person for p in people] == [0, 1]
    assert all(p.hand_present.all() for p in people)
    assert all(people[0].score.max() >= p.score.max() for p in people)


def test_two_detections_of_one_hand_are_one_hand():
    people = Truth([two_hands(0.2), two_hands(0.2)], found=[(0, 0), (0, 1), (1, 1)]).pipeline().reconstruct(blank_image()).people
    (person,) = people
    assert person.hand_present.all()


@pytest.mark.parametrize("believed", [{(0, 0): 0.7}, {(0, 1): 0.3}])
def test_stage_1_corrects_a_side_that_the_detector_got_wrong(believed):
    ((at, _),) = believed.items()
    truth = Truth([two_hands(0.2)], found=[at], right_probability=believed)
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert person.hand_present.tolist() == [at[1] == 0, at[1] == 1]


def test_of_two_hands_the_more_likely_way_round_is_taken():
    # The detector calls both right, one less so: the pair decides.
    truth = Truth([two_hands(0.2)], right_probability={(0, 0): 0.6, (0, 1): 0.9})
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert person.hand_present.all()
    assert person.keypoints_xy[0, 0, 0] < person.keypoints_xy[1, 0, 0]
    assert len(truth.asked) == 1, "stage 1 agreed, so it was asked once"


def test_the_callers_camera_is_used():
    truth = Truth([two_hands(0.2)], camera=Camera.from_fov(WIDTH, HEIGHT, 40.0))
    (person,) = truth.pipeline().reconstruct(blank_image(), fov_deg=40.0).people
    assert person.camera_source == "caller"
    assert torch.equal(person.camera.matrix(), truth.camera.matrix())
    with pytest.raises(UserError, match="together"):
        truth.pipeline().reconstruct(blank_image(), fov_deg=40.0, focal_px=100.0)


def test_results_can_be_given_in_another_hand_model(hand):
    other = HandModel(dataclasses.replace(hand.data, name="other", v_template=hand.data.v_template * 1.03))
    truth = Truth([two_hands(0.07)], found=[(0, 0), (0, 1)])
    pipeline = dataclasses.replace(truth.pipeline(), hand_model=other)
    (given,) = pipeline.reconstruct(blank_image()).people
    (own,) = truth.pipeline().reconstruct(blank_image()).people
    assert torch.allclose(other.pose_hands(given.parameters).mesh().vertices_m, given.vertices_m, atol=1e-6)
    assert (given.keypoints_m - own.keypoints_m).norm(dim=-1).mean() < 0.002
    assert given.refined


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, twohands; assert twohands.UserError; print([m for m in ('torch', 'numba', 'trimesh', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    import twohands

    for name in twohands.__all__:
        assert getattr(twohands, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        twohands.nonsense  # noqa: B018 - the access is the test


def test_a_left_and_a_right_hand_left_alone_are_one_persons():
    """The detector takes them for two people's; both near and of one size, they are asked for again together."""
    truth = Truth([two_hands(0.2)])
    detection = replace(truth(blank_image()), person=(0, 1))
    people = truth.pipeline().from_detection(blank_image(), truth.camera, detection).people
    assert [p.hand_present.tolist() for p in people] == [[True, True]]
    assert bool(truth.asked[-1].present.all())


def test_hands_of_two_people_stay_theirs():
    """Two left hands are no pair."""
    truth = Truth([two_hands(0.2), two_hands(0.2, x_m=0.3)], found=[(0, 0), (1, 0)])
    people = truth.pipeline().reconstruct(blank_image()).people
    assert sorted(p.hand_present.tolist() for p in people) == [[True, False], [True, False]]


def test_hands_that_are_certain_are_all_answered_for():
    """Neither a low presence nor a doubted side takes away a hand that an annotation says is there."""
    truth = Truth([two_hands(0.07)], presence={(0, 0): 0.1, (0, 1): 0.2})
    assert truth.pipeline().from_detection(blank_image(), truth.camera, truth(blank_image())).people == ()
    (person,) = truth.pipeline().from_detection(blank_image(), truth.camera, truth(blank_image()), certain=True).people
    assert person.hand_present.tolist() == [True, True]
    assert truth.pipeline().from_detection(blank_image(), truth.camera, truth(blank_image())[[]], certain=True).people == ()


@pytest.mark.parametrize("seen", [True, False])
def test_a_hand_that_sees_the_other_one_is_given_it(seen):
    """The detector found one of two clasped hands; the other is asked for where stage 1 saw it, and only if it saw it."""
    truth = Truth([two_hands(0.2)], found=[(0, 1)], sees_other=seen)
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert person.hand_present.tolist() == [seen, True]
    if seen:
        expected = truth.model.pose_hands(truth.people[0]).keypoints()
        assert torch.allclose(person.keypoints_m, expected, atol=1e-6)


def test_a_guess_beside_the_hand_is_mended():
    truth = Truth([two_hands(0.12)], found=[(0, 0)], sees_other=True, guess_off_px=4.0)
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert bool(person.hand_present.all())
    guessed = [pair for pair in truth.asked if bool(pair.present.all())]
    assert len(guessed) == 2
    right = truth.keypoints_xy()[0, 1]
    torch.testing.assert_close(guessed[1].box_xyxy_px[1], torch.cat([right.amin(0), right.amax(0)]))


def test_a_guess_that_a_second_look_loses_is_believed_at_first_sight():
    """What follows the keypoints of a hidden hand may end at the one in front of it."""
    truth = Truth([two_hands(0.2)], found=[(0, 1)], sees_other=True, misled=True)
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert bool(person.hand_present.all())
    assert torch.allclose(person.keypoints_m, truth.model.pose_hands(truth.people[0]).keypoints(), atol=1e-6)


def test_a_guess_that_shows_the_same_hand_again_is_not_taken():
    truth = Truth([two_hands(0.2)], found=[(0, 1)], sees_other=True, other_is_itself=True)
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert person.hand_present.tolist() == [False, True]


def test_another_hand_that_is_seen_once_and_not_again_is_not_taken():
    truth = Truth([two_hands(0.2)], found=[(0, 1)], sees_other=True, sees_it_again=False)
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert person.hand_present.tolist() == [False, True]


@pytest.mark.parametrize("doubted", [0, 1])
def test_of_two_hands_in_one_place_the_likelier_stays(doubted):
    """Where stage 1 doubts a side, and joints lie near joints; all others are stage 2's."""
    truth = Truth([two_hands(0.02)], side_correct={(0, doubted): 0.7})
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert person.hand_present.tolist() == [doubted == 1, doubted == 0]
    assert truth.refinements == 0
    for gap_m in (0.07, 0.3):
        (person,) = Truth([two_hands(gap_m)], side_correct={(0, doubted): 0.7}).pipeline().reconstruct(blank_image()).people
        assert bool(person.hand_present.all())


def test_no_two_hands_share_a_quarter_of_a_hand():
    (person,) = Truth([two_hands(0.02)]).pipeline().reconstruct(blank_image()).people
    assert int(person.hand_present.sum()) == 1


@pytest.mark.parametrize("seen", [True, False])
def test_palm_in_palm_is_one_hand_though_fingers_point_apart(seen):
    """Keypoints far from one another do not make two hands of what shares a third of itself. That each crop shows the other hand does."""
    hands = two_hands(0.0)
    pose = hands.pose.clone()
    pose[1, 0] = matrix_to_rotvec(axis_rotation(2, torch.tensor(math.pi)) @ rotvec_to_matrix(pose[1, 0]))
    turned = replace(hands, pose=pose)
    palms = load_bundled_hand().pose_hands(turned).keypoints()[:, [0, 5, 9, 13, 17]].mean(1)
    truth = Truth(
        [replace(turned, translation_m=hands.translation_m + torch.stack([torch.zeros(3), palms[0] - palms[1]]))], sees_other=seen
    )
    assert keypoint_distance(*truth.keypoints_xy()[0]) > ONE_PLACE_DISTANCE
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert int(person.hand_present.sum()) == 1 + seen


def test_one_hand_with_a_box_of_either_side_is_looked_at_again_by_itself():
    """A glance denies the second box; what is then looked at well is the hand alone."""
    truth = Truth([two_hands(0.2)], found=[(0, 0), (0, 0)], right_probability={(0, 0): 0.5})
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert person.hand_present.tolist() == [True, False]
    assert truth.asked[-1].present.tolist() == [True, False]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_hand_that_points_elsewhere_than_the_detector_says_is_found(quarters):
    truth = Truth([two_hands(0.2)], misdirected={(0, 1): quarters})
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert person.hand_present.tolist() == [True, True]
    assert torch.allclose(person.keypoints_m, truth.model.pose_hands(truth.people[0]).keypoints(), atol=1e-6)
    assert len(truth.asked) == 1 + 3 + 1, "both at a glance, the badly read one from three more directions, both again"


def test_a_hand_that_is_read_badly_from_everywhere_stays_as_the_detector_found_it():
    truth = Truth([two_hands(0.2)], presence={(0, 1): 0.2}, misdirected={(0, 1): 1})
    detection = truth(blank_image())
    (person,) = truth.pipeline().from_detection(blank_image(), truth.camera, detection).people
    assert person.hand_present.tolist() == [True, False]
    pairs = [pair for pair in truth.asked if pair.present.tolist() == [True, True]]
    assert torch.equal(pairs[0].direction, detection.direction)
    assert len(pairs) == 1 + 3 + 1, "at a glance, from three more directions, and with left and right exchanged"


def test_a_hand_that_is_read_well_is_looked_at_no_more():
    truth = Truth([two_hands(0.2)])
    truth.pipeline().reconstruct(blank_image())
    assert len(truth.asked) == 1


def test_nobody_looks_from_elsewhere_for_a_hand_that_is_not_there():
    truth = Truth([two_hands(0.2)], presence={(0, 1): 0.02}, misdirected={(0, 0): 0})
    truth.pipeline().reconstruct(blank_image())
    assert all(torch.equal(pair.direction, truth.asked[0].direction) for pair in truth.asked if bool(pair.present.all()))


def test_clasped_hands_that_the_detector_takes_for_one_another_are_exchanged():
    truth = Truth([two_hands(0.2)], right_probability={(0, 0): 0.98, (0, 1): 0.02}, credulous=True)
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert torch.allclose(person.keypoints_m, truth.model.pose_hands(truth.people[0]).keypoints(), atol=1e-6)


@pytest.mark.parametrize("hand", [0, 1])
@pytest.mark.parametrize(("seen_up_to", "oversized"), [(1.1, 1.8), (1.4, 1.8), (1.1, 1.4)])
def test_a_hand_that_is_not_seen_in_the_detectors_box_is_found_in_a_smaller_one(hand, seen_up_to, oversized):
    truth = Truth([two_hands(0.3)], oversized={(0, hand): oversized}, seen_up_to=seen_up_to)
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert person.hand_present.tolist() == [True, True]
    assert torch.allclose(person.keypoints_m, truth.model.pose_hands(truth.people[0]).keypoints(), atol=1e-6)


def test_a_hand_is_found_in_a_smaller_box_whatever_side_the_detector_guessed():
    truth = Truth([two_hands(0.3)], found=[(0, 1)], right_probability={(0, 1): 0.02}, oversized={(0, 1): 1.8}, seen_up_to=1.1)
    (person,) = truth.pipeline().reconstruct(blank_image()).people
    assert person.hand_present.tolist() == [False, True]


@pytest.mark.parametrize("seen_up_to", [0.6, 0.3])
def test_a_hand_that_is_larger_than_the_smaller_box_is_not_believed(seen_up_to):
    """Whatever stage 1 reads in a part of what the detector saw."""
    truth = Truth([two_hands(0.3)], found=[(0, 0)], seen_up_to=seen_up_to)
    assert truth.pipeline().reconstruct(blank_image()).people == ()
    assert len(truth.asked) > 1


def test_a_hand_that_is_read_alike_as_left_and_right_is_not_believed_in_a_smaller_box():
    truth = Truth([two_hands(0.3)], found=[(0, 0)], oversized={(0, 0): 1.8}, seen_up_to=1.1, makes_up=0.8)
    assert truth.pipeline().reconstruct(blank_image()).people == ()


@pytest.mark.parametrize(("sure", "looked_for"), [(0.9, set()), (0.8, {1})])
def test_nothing_is_looked_for_in_the_place_of_a_hand_that_is_read_plainly(sure, looked_for):
    truth = Truth([two_hands(0.2)], found=[(0, 0), (0, 0)], sees_other=True)
    detection = truth(blank_image())
    pixels = torch.from_numpy(blank_image()).permute(2, 0, 1)
    (candidate,) = truth.pipeline().finder._infer(pixels, truth.camera, detection, [(0, 1)])
    assert candidate.present.tolist() == [True, False]
    confidence = torch.tensor([[sure], [0.05]]).expand(2, 21)
    assert set(unseen(detection, [replace(candidate, hands=replace(candidate.hands, keypoint_confidence=confidence))])) == looked_for


@pytest.mark.parametrize("hand", [0, 1])
def test_two_hands_in_one_place_that_are_both_denied_are_asked_for_one_by_one(hand):
    truth = Truth([two_hands(0.2)], found=[(0, hand), (0, hand)], denies_both=True)
    (person,) = reconstructed(truth, [0.02, 0.98], (0, 0))
    assert person.hand_present.tolist() == [hand == 0, hand == 1]


def test_hands_whose_boxes_were_paired_crosswise_are_looked_at_together():
    """Each hand has a box of either side, and the detector pairs the two boxes of a hand."""
    truth = Truth([two_hands(0.2)], found=[(0, 0), (0, 0), (0, 1), (0, 1)])
    detection = truth(blank_image())
    sides = torch.tensor([0.02, 0.98, 0.02, 0.98])
    paired = dataclasses.replace(detection, right_probability=sides, person=(0, 0, 1, 1))
    (person,) = truth.pipeline().from_detection(blank_image(), truth.camera, paired).people
    assert person.hand_present.all()
    assert [pair.present.tolist() for pair in truth.asked] == [[True, True]] * 3, "each pair of boxes at a glance, then both hands"


def test_a_hand_whose_second_box_is_denied_late_still_gets_the_other_one():
    """The detector pairs the two boxes of the left hand; that the second is none shows only in a better look."""
    truth = Truth([two_hands(0.2)], found=[(0, 0), (0, 0), (0, 1)], makes_up=0.9, sobers=True)
    (person,) = reconstructed(truth, [0.02, 0.98, 0.98], (0, 0, 1))
    assert bool(person.hand_present.all())


def reconstructed(truth, right_probability, person):
    """People whom the pipeline finds where the detector doubts sides and people."""
    detection = replace(truth(blank_image()), right_probability=torch.tensor(right_probability), person=person)
    return truth.pipeline().from_detection(blank_image(), truth.camera, detection).people


@pytest.mark.parametrize("sureness", [0.3, 0.79])
def test_a_hand_made_up_in_the_other_ones_box_gives_way_to_the_true_one(sureness):
    """Of one of two clasped hands the detector gave a box of either side. A hand that is as sure as the other one is not doubted."""
    truth = Truth([two_hands(0.2)], found=[(0, 1), (0, 1)], sees_other=True, makes_up=sureness)
    (person,) = reconstructed(truth, [0.98, 0.02], (0, 0))
    expected = truth.model.pose_hands(truth.people[0]).keypoints()
    assert torch.allclose(person.keypoints_m[1], expected[1], atol=1e-6)
    assert torch.allclose(person.keypoints_m[0], expected[0], atol=1e-6) == (sureness == 0.3)


def test_a_made_up_hand_stays_where_no_other_one_is_seen():
    truth = Truth([two_hands(0.2)], found=[(0, 1), (0, 1)], makes_up=0.5)
    (person,) = reconstructed(truth, [0.98, 0.02], (0, 0))
    assert bool(person.hand_present.all())


def test_two_hands_with_boxes_of_either_side_are_one_person():
    """Each is then found with one made up beside it."""
    truth = Truth([two_hands(0.2)], found=[(0, 0), (0, 0), (0, 1), (0, 1)], makes_up=0.3)
    (person,) = reconstructed(truth, [0.02, 0.98, 0.02, 0.98], (0, 0, 1, 1))
    assert bool(person.hand_present.all())
    assert torch.allclose(person.keypoints_m, truth.model.pose_hands(truth.people[0]).keypoints(), atol=1e-6)
