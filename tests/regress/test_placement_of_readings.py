"""When the teacher, asked for a hidden hand, has read the one in front of it."""

import torch

from twohands.regress.infer import PlacedReading, _both_heard, _read_twice


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


def test_encoder_and_teacher_count_alike_where_the_teacher_was_asked_and_found_a_hand() -> None:
    encoder, teacher = reading(0.5, 0.9, 0.8), reading(0.7, 0.2, 0.3)
    unsure = PlacedReading(teacher.ray_xy + 1, teacher.depth + 1, torch.tensor([[0.9, 0.1]]), teacher.side_correct)
    heard = _both_heard(encoder, unsure, torch.tensor([True]), least=0.5)
    torch.testing.assert_close(heard.ray_xy[:, 0], (encoder.ray_xy + unsure.ray_xy)[:, 0] / 2)
    torch.testing.assert_close(heard.depth[:, 0], torch.full((1, 21), 0.5))
    torch.testing.assert_close(heard.ray_xy[:, 1], encoder.ray_xy[:, 1])
    assert torch.equal(heard.presence, unsure.presence), "that it found nothing is an answer too"
    nobody = _both_heard(encoder, unsure, torch.tensor([False]), least=0.5)
    for name, value in nobody.__dict__.items():
        assert torch.equal(value, getattr(encoder, name))
