from twohands.joints import (
    FINGERS,
    MANO16,
    MANO16_PARENTS,
    MIDDLE_MCP,
    OPENPOSE21,
    OPENPOSE21_BONES,
    OPENPOSE21_FROM_MANO16_AND_TIPS,
    OPENPOSE21_PARENTS,
)


def test_orders_name_every_joint_once():
    assert (len(MANO16), len(set(MANO16))) == (16, 16)
    assert (len(OPENPOSE21), len(set(OPENPOSE21))) == (21, 21)


def test_parents_come_first_and_chains_stay_within_a_finger():
    for names, parents in ((MANO16, MANO16_PARENTS), (OPENPOSE21, OPENPOSE21_PARENTS)):
        assert parents[0] == -1
        for joint, parent in list(enumerate(parents))[1:]:
            assert parent < joint
            assert names[parent] in ("wrist", f"{names[joint][:-1]}{int(names[joint][-1]) - 1}")


def test_every_keypoint_but_the_wrist_ends_one_bone():
    assert sorted(child for _, child in OPENPOSE21_BONES) == list(range(1, 21))


def test_conversion_goes_by_name():
    source = [*MANO16, *(f"{finger}4" for finger in FINGERS)]
    assert tuple(source[i] for i in OPENPOSE21_FROM_MANO16_AND_TIPS) == OPENPOSE21


def test_the_middle_knuckle_is_keypoint_nine():
    assert MIDDLE_MCP == 9
