import numpy as np
import pytest
import torch
import trimesh

from twohands.geometry import mesh as m
from twohands.geometry.rotations import rotvec_to_matrix

BALL = trimesh.creation.icosphere(subdivisions=2, radius=0.05)
VERTICES = torch.tensor(BALL.vertices.copy())
FACES = torch.tensor(BALL.faces.copy())


def open_at(vertex: int) -> torch.Tensor:
    """The ball without the faces around one vertex."""
    return FACES[~FACES.eq(vertex).any(1)]


def test_agrees_with_trimesh():
    torch.testing.assert_close(m.face_normals(VERTICES, FACES), torch.tensor(BALL.face_normals.copy()))
    assert float(m.signed_volume_m3(VERTICES, FACES)) == pytest.approx(BALL.volume)
    assert len(m.edges(FACES)) == len(BALL.edges_unique)


def test_normals_of_a_ball_point_away_from_its_centre():
    outwards = VERTICES / VERTICES.norm(dim=-1, keepdim=True)
    assert (m.vertex_normals(VERTICES, FACES) * outwards).sum(-1).min() > 0.999


def test_normals_turn_with_the_mesh_in_any_batch():
    turns = rotvec_to_matrix(torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    turned = VERTICES @ turns.mT + 0.7
    for normals in (m.face_normals, m.vertex_normals):
        torch.testing.assert_close(normals(turned, FACES), normals(VERTICES, FACES) @ turns.mT)


def test_volume_does_not_move_turns_sign_with_the_faces_and_scales_with_the_cube():
    volume = m.signed_volume_m3(VERTICES, FACES)
    torch.testing.assert_close(m.signed_volume_m3(VERTICES + 3.0, FACES), volume)
    torch.testing.assert_close(m.signed_volume_m3(VERTICES, FACES.flip(1)), -volume)
    torch.testing.assert_close(m.signed_volume_m3(torch.stack([VERTICES, 2 * VERTICES]), FACES), torch.stack([volume, 8 * volume]))
    single = m.signed_volume_m3(VERTICES.float() + 1.0, FACES)
    torch.testing.assert_close(single.double(), volume, rtol=1e-4, atol=0)


def test_closed_means_each_edge_once_each_way():
    assert m.is_closed(FACES)
    assert not m.is_closed(FACES[1:])
    assert not m.is_closed(torch.cat([FACES, FACES[:1]]))
    turned = FACES.clone()
    turned[0] = turned[0].flip(0)
    assert not m.is_closed(turned)


@pytest.mark.parametrize("vertex", [0, 17, 101])
def test_closing_an_opened_ball_closes_it(vertex):
    faces = open_at(vertex).numpy()
    assert not m.is_closed(torch.tensor(faces))
    vertices, closed = m.close_mesh(VERTICES.numpy(), faces)
    assert len(vertices) == len(VERTICES) + 1
    assert m.is_closed(torch.tensor(closed))
    volume = float(m.signed_volume_m3(torch.tensor(vertices), torch.tensor(closed)))
    assert 0.95 * BALL.volume < volume < BALL.volume
    again = m.close_mesh(vertices, closed)
    assert again[0] is vertices
    assert again[1] is closed


def test_rim_runs_along_the_faces_edges():
    faces = open_at(0)
    loop = m.boundary_loop(faces).tolist()
    assert len(set(loop)) == len(loop) == int((FACES == 0).any(1).sum())
    directed = {(a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
    assert all(edge in directed for edge in zip(loop, loop[1:] + loop[:1], strict=True))


def test_rims_that_cannot_be_closed_are_refused():
    with pytest.raises(ValueError, match="no rim"):
        m.boundary_loop(FACES)
    far = int(np.argmin(VERTICES.numpy() @ VERTICES[0].numpy()))
    with pytest.raises(ValueError, match="more than one hole"):
        m.boundary_loop(FACES[~torch.isin(FACES, torch.tensor([0, far])).any(1)])


def test_gradcheck():
    vertices = VERTICES[:4].clone().requires_grad_()
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    assert torch.autograd.gradcheck(lambda v: m.vertex_normals(v, faces), vertices)
    assert torch.autograd.gradcheck(lambda v: m.signed_volume_m3(v, faces), vertices)
