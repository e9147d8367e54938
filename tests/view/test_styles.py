"""Every style shows the hands in their colours, the nearer one in front; sheets and turntables hold what they should."""

import numpy as np
import pytest
from PIL import Image

from scenes import HEIGHT, WIDTH, Truth, blank_image, two_hands
from twohands.view.overlay import PAPER_RGB
from twohands.view.sheet import Cell, contact_sheet
from twohands.view.styles import STYLES, captioned, draw_style
from twohands.view.turntable import four_views, write_turntable


def result_of(*people, found=None):
    return Truth(list(people), found=found).pipeline().reconstruct(blank_image(), refine=False)


def blue_minus_red(picture: np.ndarray) -> np.ndarray:
    return picture[..., 2].astype(int) - picture[..., 0].astype(int)


@pytest.mark.parametrize("style", STYLES)
def test_a_style_draws_hands_and_leaves_the_rest(hand, style):
    picture = draw_style(result_of(two_hands(0.2)), hand, style)
    nothing = draw_style(result_of(two_hands(0.2), found=[]), hand, style)
    assert picture.dtype == np.uint8
    assert picture.shape == nothing.shape
    if style != "side-by-side":
        assert picture.shape == (HEIGHT, WIDTH, 3)
        assert np.array_equal(nothing, blank_image())
        assert np.array_equal(picture[:2], blank_image()[:2])
        assert (picture != blank_image()).any(-1).mean() > 0.03


@pytest.mark.parametrize("style", ["wire", "skeleton"])
@pytest.mark.parametrize("nearer", [0, 1])
def test_the_nearer_hand_hides_the_other(hand, style, nearer):
    pair = two_hands(0.0)
    pair.translation_m[1 - nearer, 2] += 0.15
    picture = draw_style(result_of(pair), hand, style, longer_side_px=384)
    hue = blue_minus_red(picture)
    own = (hue > 30).sum() if nearer == 0 else (hue < -30).sum()
    other = (hue < -30).sum() if nearer == 0 else (hue > 30).sum()
    assert own > 1.3 * other, "both hands lie in one place: the nearer one has more of it"


def test_depth_runs_from_bright_to_dark(hand):
    pair = two_hands(0.2)
    pair.translation_m[1, 2] += 0.3
    result = result_of(pair)
    picture = draw_style(result, hand, "depth").astype(int).sum(-1)
    palms = [result.people[0].keypoints_xy[h, [0, 5, 17]].mean(0).int().tolist() for h in (0, 1)]
    assert picture[palms[0][1], palms[0][0]] > picture[palms[1][1], palms[1][0]]


def test_wires_leave_the_skin_between_them_to_be_seen(hand):
    result = result_of(two_hands(0.2))
    picture = draw_style(result, hand, "wire", longer_side_px=1500)
    palm = (result.people[0].keypoints_xy[0, [0, 5, 17]].mean(0) * 1500 / WIDTH).int().tolist()
    patch = picture[palm[1] - 40 : palm[1] + 40, palm[0] - 40 : palm[0] + 40].astype(int)
    strength = np.abs(patch - 90).sum(-1)
    line = strength > 120
    assert 0.01 < line.mean() < 0.6


def test_four_views_show_four_sides(hand):
    picture = four_views(result_of(two_hands(0.2)), hand, 100)
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    views = [picture[y : y + 100, x : x + 100] for y in (0, height) for x in (0, width)]
    assert all((v != np.array(PAPER_RGB)).any(-1).mean() > 0.02 for v in views)
    # Hands side by side: seen from the right the right hand covers the left one; from behind they have changed sides.
    assert (blue_minus_red(views[1]) < -60).sum() > 3 * (blue_minus_red(views[1]) > 60).sum()
    front, back = (blue_minus_red(v) > 60 for v in (views[0], views[3]))
    assert front[:, :50].sum() > 2 * front[:, 50:].sum()
    assert back[:, 50:].sum() > 2 * back[:, :50].sum()


def test_from_above_shows_what_is_up(hand):
    pair = two_hands(0.0)
    pair.translation_m[1, 1] += 0.15  # the right hand lower: y points down
    picture = four_views(result_of(pair), hand, 100)
    above = picture[picture.shape[0] // 2 :][:100, :100]
    assert (blue_minus_red(above) > 60).sum() > (blue_minus_red(above) < -60).sum()


def test_a_turntable_turns_and_is_written_whole(hand, tmp_path):
    write_turntable(tmp_path / "a.gif", result_of(two_hands(0.1)), hand, 64, 6)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 6
        assert gif.info["loop"] == 0
        first = np.asarray(gif.convert("RGB"))
        gif.seek(2)
        assert (np.asarray(gif.convert("RGB")) != first).any(-1).mean() > 0.03
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_a_sheet_holds_every_photo_with_its_name():
    cells = [Cell.of(np.full((300, 100 * k, 3), 20 * k, np.uint8), f"photo {k}") for k in range(1, 6)]
    assert all(max(c.picture.shape) <= 240 for c in cells)
    sheet = contact_sheet(cells, columns=3)
    assert sheet.shape[1] == 3 * 246
    for k in range(1, 6):
        assert (sheet == 20 * k).all(-1).any()
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def test_long_captions_are_cut():
    assert captioned(np.zeros((10, 60, 3), np.uint8), "a very long name of a photo.jpg").shape[1] == 60
