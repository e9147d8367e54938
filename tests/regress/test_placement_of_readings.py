"""When the teacher, asked for a hidden hand, has read the one in front of it."""

import torch

from twohands.regress.infer import PlacedReading, _read_twice


def reading(gap: float, left_correct: float, right_correct: float) -> PlacedReading:
    """Both hands' readings of one hand of unit size, `gap` apart."""
    hand = torch.rand(21, 2, generator=torch.Generator().manual_seed(0))
    xy = torch.stack([hand, hand + torch.tensor([gap, 0.0])])[None]
    return PlacedReading(xy, torch.zeros(1, 2, 21), torch.ones(1, 2), torch.tensor([[left_correct, right_correct]]))


def test_of_two_readings_of_one_place_the_one_with_the_wrong_side_is_of_the_other_hand() -> None:
    assert _read_twice(reading(0.05, 0.9, 0.2)).tolist() == [[False, True]]
    assert _read_twice(reading(0.05, 0.2, 0.9)).tolist() == [[True, False]]


def test_readings_apart_are_kept() -> None:
    assert not bool(_read_twice(reading(0.5, 0.9, 0.2)).any())
