import dataclasses

import igl
import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from twohands.collision.proxies import BUNDLED_COUNTS, SphereProxies
from twohands.collision.sphere_fit import FitConfig, non_negative_solution
from twohands.errors import UserError
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.model import HandModel, HandModelData


@pytest.fixture(scope="module")
def proxies() -> SphereProxies:
    return SphereProxies.of(load_bundled_hand().data)


def open_hand() -> HandModelData:
    """The bundled hand as if it were another model: wrist open, pose correctives, other right template."""
    data = load_bundled_hand().data
    rim = set(load_hand_asset().wrist_loop.tolist())
    lid = [sum(v in rim for v in face) == 2 and min(data.v_template[1, face, 0]) > 0.024 for face in data.faces[1].tolist()]
    generator = torch.Generator().manual_seed(0)
    posedirs = 1e-4 * torch.randn(*data.v_template.shape, 135, generator=generator)
    return dataclasses.replace(data, name="other", faces=data.faces[:, ~torch.tensor(lid)], posedirs=posedirs)


@pytest.mark.parametrize("count", BUNDLED_COUNTS)
def test_centres_from_the_skeleton_are_those_of_the_mesh(pairs, count):
    proxies = SphereProxies.of(load_bundled_hand().data, count)
    found = proxies.centres_posed(pairs.posed)
    assert found.shape == (*pairs.shape.shape[:-1], count, 3)
    torch.testing.assert_close(found, proxies.centres(pairs.vertices_m), atol=2e-6, rtol=0)


def test_without_batch_axes(pairs, proxies):
    hand = load_bundled_hand()
    shaped = hand.with_shape(pairs.shape[0])
    posed = shaped.with_pose(pairs.posed.R_world_joint[0].new_zeros(2, 16, 3, 3) + torch.eye(3))
    torch.testing.assert_close(proxies.centres_posed(posed), proxies.centres(posed.mesh().vertices_m), atol=2e-6, rtol=0)
    assert proxies.radii(pairs.shape[0]).shape == (2, 96)


def test_another_model_with_open_wrist_and_correctives_is_fitted(pairs):
    data = open_hand()
    hand = HandModel(data)
    proxies = SphereProxies.fit(data, FitConfig(count=24, pitch_m=0.004, steps=20))
    posed = hand.with_shape(pairs.shape[:4]).with_pose(pairs.posed.R_world_joint[:4])
    torch.testing.assert_close(proxies.centres_posed(posed), proxies.centres(posed.mesh().vertices_m), atol=2e-6, rtol=0)
    assert (proxies.radius_m > 2e-3).all()


def test_non_negative_least_squares_agrees_with_scipy():
    rng = np.random.default_rng(0)
    for columns in (1, 2, 7, 30, 60):
        system, target = np.concatenate([rng.normal(size=(columns, columns)), 0.05 * np.eye(columns)]), rng.normal(size=2 * columns)
        found = non_negative_solution(system, target)
        assert (found >= 0).all()
        np.testing.assert_allclose(found, nnls(system, target)[0], atol=1e-9)


def test_gradient_reaches_pose_and_shape(pairs, proxies):
    hand = load_bundled_hand().to(torch.float64)
    precise = proxies.to(torch.float64)
    rotation = torch.eye(3, dtype=torch.float64).expand(1, 2, 16, 3, 3).clone().requires_grad_()
    shape, translation = torch.zeros(1, 2, 10, dtype=torch.float64, requires_grad=True), torch.zeros(1, 2, 3, dtype=torch.float64)
    for function in (
        lambda r, s: precise.centres_posed(hand.with_shape(s).with_pose(r, translation)).square().sum(),
        lambda r, s: precise.radii(s).square().sum() + 0 * r.sum(),
    ):
        assert torch.autograd.gradcheck(function, (rotation, shape), atol=1e-6)


def test_spheres_fill_the_posed_hand_and_little_else(pairs, proxies):
    """In random poses the union of the 96 spheres holds about 95 % of the hand, and 7 % more than the hand."""
    rng, faces = np.random.default_rng(0), pairs.faces[1].numpy()
    centres, radii = proxies.centres_posed(pairs.posed)[:, 1].double(), proxies.radii(pairs.shape)[:, 1].double()
    covered, outside = [], []
    for k in range(6):
        mesh = pairs.vertices_m[k, 1].double().numpy()
        points = rng.uniform(mesh.min(0), mesh.max(0), (8000, 3))
        hand = igl.fast_winding_number(mesh, faces, points) > 0.5
        union = (torch.cdist(torch.from_numpy(points), centres[k]) < radii[k]).any(1).numpy()
        covered.append((hand & union).sum() / hand.sum())
        outside.append((union & ~hand).sum() / hand.sum())
    assert np.mean(covered) > 0.92
    assert np.mean(outside) < 0.1


def test_radii_follow_the_size_of_the_hand(proxies):
    shape = torch.zeros(2, 2, 10)
    shape[:, :, 0] = torch.tensor([-2.0, 2.0])[:, None]
    hand = load_bundled_hand()
    small, large = (hand.data.v_template + hand.data.shapedirs @ s[0] for s in shape)
    scale = (large[1].std(0) / small[1].std(0)).mean()
    ratio = (proxies.radii(shape[1]) / proxies.radii(shape[0])).median()
    assert ratio.item() == pytest.approx(scale.item(), rel=0.08)


def test_left_spheres_mirror_right_ones(proxies):
    centres = proxies.centres(load_bundled_hand().data.v_template)
    torch.testing.assert_close(centres[0], centres[1] * torch.tensor([-1.0, 1, 1]))
    torch.testing.assert_close(proxies.radius_m[0], proxies.radius_m[1])


def test_stored_spheres_of_another_hand_are_refused():
    data = load_bundled_hand().data
    with pytest.raises(UserError, match="fit_spheres"):
        SphereProxies.of(dataclasses.replace(data, v_template=data.v_template * 1.01))


def test_neighbouring_spheres_never_collide(proxies):
    assert not proxies.may_collide.diagonal(dim1=1, dim2=2).any()
    assert torch.equal(proxies.may_collide, proxies.may_collide.transpose(1, 2))
    same = proxies.part[:, :, None] == proxies.part[:, None]
    assert not (proxies.may_collide & same).any()
