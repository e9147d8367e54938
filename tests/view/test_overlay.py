"""The drawing shows the hands where they are, each in its colour, the nearer one in front."""

import numpy as np
import pytest
from PIL import Image

from scenes import HEIGHT, WIDTH, Truth, blank_image, two_hands
from twohands.palette import HAND_RGB
from twohands.view.overlay import PAPER_RGB, draw_overlay, draw_view, side_by_side, write_picture


def result_of(*people, found=None):
    return Truth(list(people), found=found).pipeline().reconstruct(blank_image(), refine=False)


def side_of(pixel: np.ndarray) -> int:
    """Which hand's colour a pixel is nearest in hue: blue above red is the left hand's."""
    return 0 if pixel[2] > pixel[0] else 1


def at(picture: np.ndarray, xy) -> np.ndarray:
    return picture[int(xy[1]), int(xy[0])].astype(int)


def test_hands_have_their_colours_where_they_are_and_the_rest_is_photo(hand):
    result = result_of(two_hands(0.2))
    picture = draw_overlay(result, hand, opacity=1.0)
    (person,) = result.people
    for side in (0, 1):
        palm = person.keypoints_xy[side, [0, 5, 17]].mean(0)
        assert side_of(at(picture, palm)) == side
        assert side_of(np.array(HAND_RGB[side])) == side
    low = np.floor(person.camera.project(person.vertices_m.flatten(0, 1)).numpy().min(0)).astype(int)
    outside = np.ones((HEIGHT, WIDTH), bool)
    high = np.ceil(person.camera.project(person.vertices_m.flatten(0, 1)).numpy().max(0)).astype(int) + 1
    outside[max(low[1], 0) : high[1], max(low[0], 0) : high[0]] = False
    assert outside.any()
    assert np.array_equal(picture[outside], blank_image()[outside])


@pytest.mark.parametrize("nearer", [0, 1])
def test_the_nearer_hand_is_in_front(hand, nearer):
    pair = two_hands(0.0)
    pair.translation_m[1 - nearer, 2] += 0.15
    result = result_of(pair)
    picture = draw_overlay(result, hand, opacity=1.0)
    palm = result.people[0].keypoints_xy[nearer, [0, 5, 17]].mean(0)
    assert side_of(at(picture, palm)) == nearer


def test_edges_are_smooth(hand):
    opaque = draw_overlay(result_of(two_hands(0.2)), hand, opacity=1.0).astype(int)
    half = draw_overlay(result_of(two_hands(0.2)), hand, opacity=0.5)
    expected = (opaque + blank_image()) / 2
    assert np.abs(half - expected).max() <= 1, "opacity mixes photo and drawing"


def test_absent_hands_are_not_drawn(hand):
    both = draw_overlay(result_of(two_hands(0.2)), hand, opacity=1.0)
    left = draw_overlay(result_of(two_hands(0.2), found=[(0, 0)]), hand, opacity=1.0)
    middle = WIDTH // 2
    assert np.array_equal(left[:, : middle - 4], both[:, : middle - 4])
    assert np.array_equal(left[:, middle + 4 :], blank_image()[:, middle + 4 :])
    nothing = result_of(two_hands(0.2), found=[])
    assert np.array_equal(draw_overlay(nothing, hand), blank_image())
    assert (draw_view(nothing, hand, 32) == PAPER_RGB).all()


def test_hands_that_leave_the_picture(hand):
    for x_m in (0.25, 5.0):
        assert draw_overlay(result_of(two_hands(0.2, x_m=x_m)), hand).shape == (HEIGHT, WIDTH, 3)


def test_skeletons_are_drawn_at_the_keypoints(hand):
    result = result_of(two_hands(0.2))
    picture = draw_overlay(result, hand, opacity=0.0, skeleton=True, longer_side_px=10 * WIDTH)
    assert picture.shape == (10 * HEIGHT, 10 * WIDTH, 3)
    for xy in result.people[0].keypoints_xy.flatten(0, 1)[::4]:
        assert at(picture, 10 * xy).min() > 200, "white dots"


def test_views_show_both_hands_whole(hand):
    picture = draw_view(result_of(two_hands(0.2)), hand, 64)
    drawn = (picture != PAPER_RGB).any(-1)
    assert drawn.any()
    assert not drawn[[0, -1]].any(), "nothing is cut off"
    assert not drawn[:, [0, -1]].any()
    row = side_by_side(result_of(two_hands(0.2)), hand, height_px=50)
    assert row.shape == (50, 3 * (75 + 4) + 50, 3)


def test_pictures_are_written_whole(tmp_path):
    write_picture(tmp_path / "a.png", blank_image())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), blank_image())
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
