"""Probabilities of distances against drawn ones."""

import numpy as np
import pytest
import torch

from twohands.regress.confidence import confidence_of_distance, laplace_distance_within


@pytest.mark.parametrize("radius", [0.0, 0.3, 1.0, 2.5, 6.0, 40.0])
def test_distances_of_laplace_errors_against_drawn_ones(radius: float) -> None:
    drawn = np.hypot(*np.random.default_rng(2).laplace(size=(2, 400_000)))
    assert float(laplace_distance_within(torch.tensor(radius))) == pytest.approx((drawn < radius).mean(), abs=0.003)


def test_a_coordinate_is_nearer_more_often_than_the_point() -> None:
    of_coordinate = torch.tensor([0.0, 0.2, 0.5, 0.9, 0.999, 1.0])
    of_distance = confidence_of_distance(of_coordinate)
    assert (of_distance[1:-1] < of_coordinate[1:-1]).all()
    assert (of_distance.diff() > 0).all()
    assert ((of_distance >= 0) & (of_distance <= 1)).all()
