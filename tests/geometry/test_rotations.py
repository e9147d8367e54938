import math

import pytest
import roma
import torch
from hypothesis import given
from hypothesis import strategies as st

from twohands.geometry import rotations as r

BATCHES = [(), (4,), (2, 3)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_rotation(*batch: int, seed: int = 0) -> torch.Tensor:
    return r.random_rotation(batch, torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("batch", BATCHES)
def test_random_rotations_are_rotations(batch):
    rotation = random_rotation(*batch)
    assert rotation.shape == (*batch, 3, 3)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(*batch, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(batch).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch", BATCHES)
def test_round_trips(batch):
    rotation = r.rotvec_to_matrix(normal(*batch, 3))
    torch.testing.assert_close(r.six_d_to_matrix(r.matrix_to_six_d(rotation)), rotation)
    torch.testing.assert_close(r.rotvec_to_matrix(r.matrix_to_rotvec(rotation)), rotation)


def test_six_d_is_two_columns_and_any_scale_or_shear_of_them():
    rotation = random_rotation(5)
    six_d = r.matrix_to_six_d(rotation)
    torch.testing.assert_close(six_d, torch.cat([rotation[:, :, 0], rotation[:, :, 1]], -1))
    first, second = six_d[:, :3], six_d[:, 3:]
    torch.testing.assert_close(r.six_d_to_matrix(torch.cat([3 * first, 0.2 * second + 0.7 * first], -1)), rotation, atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch", BATCHES)
def test_any_six_numbers_make_a_rotation(batch):
    rotation = r.six_d_to_matrix(normal(*batch, 6))
    torch.testing.assert_close(rotation.mT @ rotation, torch.eye(3).double().expand(*batch, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(batch).double())


@given(st.floats(0.0, math.pi - 1e-3), st.integers(0, 1000))
def test_angle_is_the_length_of_the_rotation_vector(angle, seed):
    axis = torch.nn.functional.normalize(normal(3, seed=seed), dim=-1)
    start = random_rotation(seed=seed)
    turned = start @ r.rotvec_to_matrix(angle * axis)
    assert float(r.geodesic_angle_rad(start, turned)) == pytest.approx(angle, abs=1e-5)


def test_angle_is_a_metric():
    a, b, c = random_rotation(3, 20)
    torch.testing.assert_close(r.geodesic_angle_rad(a, b), r.geodesic_angle_rad(b, a))
    torch.testing.assert_close(r.geodesic_angle_rad(c @ a, c @ b), r.geodesic_angle_rad(a, b), atol=1e-5, rtol=0)
    assert bool((r.geodesic_angle_rad(a, c) <= r.geodesic_angle_rad(a, b) + r.geodesic_angle_rad(b, c) + 1e-6).all())


def test_axis_rotation_turns_by_the_right_hand_rule():
    quarter = torch.tensor(math.pi / 2, dtype=torch.float64)
    eye = torch.eye(3).double()
    for axis in range(3):
        turned = r.axis_rotation(axis, quarter) @ eye[(axis + 1) % 3]
        torch.testing.assert_close(turned, eye[(axis + 2) % 3])


def test_turning_to_a_ray_is_the_least_rotation_that_does():
    ray = normal(50, 3, seed=4)
    ray[:, 2] = ray[:, 2].abs()
    rotation = r.turn_to(3 * ray)
    unit = torch.nn.functional.normalize(ray, dim=-1)
    torch.testing.assert_close(rotation @ torch.tensor([0.0, 0.0, 1.0]).double(), unit)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(50, 3, 3))
    torch.testing.assert_close(r.matrix_to_rotvec(rotation).norm(dim=-1), unit[:, 2].acos())


def test_rotations_of_one_axis_add():
    a, b = normal(2, 6)
    for axis in range(3):
        torch.testing.assert_close(r.axis_rotation(axis, a) @ r.axis_rotation(axis, b), r.axis_rotation(axis, a + b))


def test_gradient_at_rest_is_finite():
    """Hands start at zero rotation, where naive formulas divide by zero."""
    rotvec = torch.zeros(2, 3, requires_grad=True, dtype=torch.float64)
    assert torch.autograd.gradcheck(r.rotvec_to_matrix, rotvec)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-3, 0.0099, 0.0101, 1.0, 3.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_formulas_agree_with_roma(scale, dtype):
    """Near zero, on both sides of where the series begin, and near half a turn."""
    rotvec = (scale * torch.nn.functional.normalize(normal(200, 3), dim=-1)).to(dtype)
    exact = {torch.float32: 2e-6, torch.float64: 1e-12}[dtype]
    rotation = r.rotvec_to_matrix(rotvec)
    # roma stops at the first order below 1e-6.
    torch.testing.assert_close(rotation, roma.rotvec_to_rotmat(rotvec), atol=exact, rtol=0)
    torch.testing.assert_close(r.matrix_to_rotvec(rotation), roma.rotmat_to_rotvec(rotation), atol=20 * exact, rtol=0)
    quaternion, twin = r.matrix_to_quaternion(rotation), roma.rotmat_to_unitquat(rotation)
    assert bool((quaternion[:, 3] >= 0).all())
    torch.testing.assert_close(quaternion, torch.where(twin[:, 3:] < 0, -twin, twin), atol=exact, rtol=0)
    other = random_rotation(200, seed=1).to(dtype)
    # Near half a turn the angle of two matrices is only known to the root of their rounding.
    angle, twin = r.geodesic_angle_rad(rotation, other), roma.rotmat_geodesic_distance(rotation, other)
    torch.testing.assert_close(angle, twin, atol=0.5 * exact**0.5, rtol=0)


def test_half_turns_come_back():
    axis = torch.nn.functional.normalize(normal(50, 3), dim=-1)
    rotation = r.rotvec_to_matrix(math.pi * axis)
    torch.testing.assert_close(r.rotvec_to_matrix(r.matrix_to_rotvec(rotation)), rotation)
    assert bool((r.matrix_to_rotvec(rotation).norm(dim=-1) <= math.pi + 1e-9).all())


def test_nearest_rotation_agrees_with_roma_and_keeps_the_hand():
    matrix = normal(100, 3, 3)
    found = r.nearest_rotation(matrix)
    torch.testing.assert_close(found, roma.special_procrustes(matrix))
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(100).double())


def test_gradients_of_both_ways():
    rotvec = torch.cat([1e-3 * normal(2, 3), 0.02 * normal(2, 3, seed=1), normal(3, 3, seed=2)]).requires_grad_()
    assert torch.autograd.gradcheck(r.rotvec_to_matrix, rotvec)
    assert torch.autograd.gradcheck(lambda v: r.matrix_to_rotvec(r.rotvec_to_matrix(v)), rotvec)
