import pytest
import torch

from twohands.geometry.mesh import is_closed, signed_volume_m3
from twohands.geometry.rotations import random_rotation, rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.model import HandModel, HandModelData
from twohands.hands.parameters import HandParameters
from twohands.joints import MANO16_PARENTS, OPENPOSE21_FROM_MANO16_AND_TIPS

DOUBLE = torch.float64


def tiny_model(flat_hand_mean: bool = True, vertices: int = 12) -> HandModel:
    """A model of few vertices with every part of a large one, pose correctives and mean pose too; its surface is a closed double fan."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=DOUBLE)

    ring = torch.arange(2, vertices)
    upper = torch.stack([torch.zeros_like(ring), ring, ring.roll(-1)], 1)
    faces = torch.cat([upper, torch.stack([torch.ones_like(ring), ring.roll(-1), ring], 1)])
    return HandModel(
        HandModelData(
            name="tiny",
            v_template=normal(2, vertices, 3) * 0.05,
            shapedirs=normal(2, vertices, 3, 10) * 0.01,
            posedirs=normal(2, vertices, 3, 135) * 0.01,
            J_regressor=normal(2, 16, vertices).softmax(-1),
            weights=normal(2, vertices, 16).softmax(-1),
            faces=torch.stack([faces.flip(1), faces]),
            tip_vertices=torch.tensor([[0, 2, 4, 6, 8], [1, 3, 5, 7, 11]]),
            hands_mean=normal(2, 45) * 0.3,
        ),
        flat_hand_mean,
    )


def random_parameters(*batch: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> HandParameters:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((2, 16, 3), (2, 10), (2, 3))
    pose, shape, translation = (torch.randn(*batch, *size, generator=generator, dtype=dtype) for size in sizes)
    return HandParameters(0.6 * pose, shape, translation)


def skin_by_the_book(model: HandModel, parameters: HandParameters, hand: int) -> tuple[torch.Tensor, torch.Tensor]:
    """MANO's equations vertex by vertex and joint by joint, with 4 x 4 matrices: the plain twin."""
    data, shape = model.data, parameters.shape[hand]
    rotations = rotvec_to_matrix(parameters.pose[hand])
    shaped = data.v_template[hand] + data.shapedirs[hand] @ shape
    joints = data.J_regressor[hand] @ shaped
    if data.posedirs is not None:
        shaped = shaped + data.posedirs[hand] @ (rotations[1:] - torch.eye(3, dtype=DOUBLE)).flatten()
    world: list[torch.Tensor] = []
    for joint, parent in enumerate(MANO16_PARENTS):
        local = torch.eye(4, dtype=DOUBLE)
        local[:3, :3] = rotations[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if joint else 0)
        world.append(world[parent] @ local if joint else local)
    vertices = torch.zeros_like(shaped)
    for joint in range(16):
        moved = (shaped - joints[joint]) @ world[joint][:3, :3].T + world[joint][:3, 3]
        vertices += data.weights[hand][:, joint, None] * moved
    translation = parameters.translation_m[hand]
    return vertices + translation, torch.stack([frame[:3, 3] for frame in world]) + translation


@pytest.mark.parametrize("model", [tiny_model(), load_bundled_hand().to(DOUBLE)], ids=["tiny", "bundled"])
def test_matches_the_equations(model):
    parameters = random_parameters()
    posed = model.pose_hands(parameters)
    for hand in range(2):
        vertices, joints = skin_by_the_book(model, parameters, hand)
        torch.testing.assert_close(posed.mesh().vertices_m[hand], vertices)
        torch.testing.assert_close(posed.joints_m[hand], joints)


def test_rest_pose_is_template():
    model = load_bundled_hand()
    mesh = model.pose_hands(HandParameters.zeros()).mesh()
    torch.testing.assert_close(mesh.vertices_m, model.data.v_template, atol=1e-7, rtol=0)


@pytest.mark.parametrize("output", ["vertices", "keypoints", "R_world_joint"])
def test_gradcheck(output):
    model = tiny_model()
    parameters = random_parameters(2)

    def run(pose, shape, translation):
        posed = model.pose_hands(HandParameters(pose, shape, translation))
        match output:
            case "vertices":
                return posed.mesh().vertices_m
            case "keypoints":
                return posed.keypoints()
            case _:
                return posed.R_world_joint

    inputs = [t.requires_grad_() for t in (parameters.pose, parameters.shape, parameters.translation_m)]
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("model", [tiny_model(), load_bundled_hand().to(DOUBLE)], ids=["tiny", "bundled"])
def test_keypoints_are_those_of_the_mesh(model):
    posed = model.pose_hands(random_parameters(3))
    mesh = posed.mesh()
    torch.testing.assert_close(posed.keypoints(), mesh.keypoints_m)
    tips = torch.stack([mesh.vertices_m[:, hand, model.data.tip_vertices[hand]] for hand in range(2)], 1)
    both = torch.cat([posed.joints_m, tips], -2)
    torch.testing.assert_close(posed.joints_and_tips(), both[:, :, list(OPENPOSE21_FROM_MANO16_AND_TIPS)])


@pytest.mark.parametrize("batch", [(), (1,), (7,), (2, 3), (2, 1, 2)])
def test_batch_axes(batch):
    """A batch is the stack of its samples, whatever its axes."""
    model = tiny_model()
    parameters = random_parameters(*batch)
    mesh = model.pose_hands(parameters).mesh()
    assert mesh.vertices_m.shape == (*batch, 2, 12, 3)
    flat_parameters, flat_mesh = (record.map(lambda t: t.reshape(-1, *t.shape[len(batch) :])) for record in (parameters, mesh))
    for sample in range(len(flat_parameters.pose)):
        alone = model.pose_hands(flat_parameters[sample])
        torch.testing.assert_close(flat_mesh[sample].vertices_m, alone.mesh().vertices_m)
        torch.testing.assert_close(flat_mesh[sample].keypoints_m, alone.keypoints())


def test_empty_batch():
    assert tiny_model().pose_hands(random_parameters(0)).mesh().vertices_m.shape == (0, 2, 12, 3)


def test_large_batches_are_skinned_in_chunks_without_a_seam():
    model = load_bundled_hand()
    parameters = random_parameters(40, dtype=torch.float32)
    whole = model.pose_hands(parameters).mesh().vertices_m
    for sample in (0, 15, 16, 39):
        torch.testing.assert_close(whole[sample], model.pose_hands(parameters[sample]).mesh().vertices_m, atol=1e-6, rtol=0)


def test_one_shape_serves_many_poses():
    model = tiny_model()
    parameters = random_parameters(4)
    R_parent_joint = rotvec_to_matrix(parameters.pose)
    shared = model.with_shape(parameters.shape[0]).with_pose(R_parent_joint).mesh().vertices_m
    repeated = model.with_shape(parameters.shape[:1].expand(4, -1, -1)).with_pose(R_parent_joint).mesh().vertices_m
    torch.testing.assert_close(shared, repeated)


def test_wrist_turns_the_hand_about_its_wrist():
    """Turning joint 0 moves the mesh rigidly about J0(shape); the translation is added after."""
    model = tiny_model()
    parameters = random_parameters()
    shaped = model.with_shape(parameters.shape)
    rotations = rotvec_to_matrix(parameters.pose)
    turn = random_rotation((2,), torch.Generator().manual_seed(1)).to(DOUBLE)
    turned = torch.cat([(turn @ rotations[:, 0])[:, None], rotations[:, 1:]], 1)
    before = shaped.with_pose(rotations).mesh().vertices_m
    after = shaped.with_pose(turned, parameters.translation_m).mesh().vertices_m
    wrist = shaped.joints_rest_m[:, :1]
    expected = (before - wrist) @ turn.transpose(-1, -2) + wrist + parameters.translation_m[:, None]
    torch.testing.assert_close(after, expected)


def test_hands_mean_is_added_to_the_fingers_only():
    parameters = random_parameters(2)
    curved = tiny_model(flat_hand_mean=False)
    pose = parameters.pose.clone()
    pose[..., 1:, :] += curved.data.hands_mean.reshape(2, 15, 3)
    expected = tiny_model().pose_hands(HandParameters(pose, parameters.shape, parameters.translation_m)).mesh()
    torch.testing.assert_close(curved.pose_hands(parameters).mesh().vertices_m, expected.vertices_m)


def test_closed_mesh_needs_no_closing():
    model = load_bundled_hand()
    assert model.closed_faces() is model.faces
    vertices = model.data.v_template
    assert model.closed_vertices(vertices) is vertices


def test_both_bundled_hands_are_watertight_and_look_outwards():
    model = load_bundled_hand()
    for hand in range(2):
        assert is_closed(model.faces[hand])
        assert 1e-4 < signed_volume_m3(model.data.v_template[hand], model.faces[hand]) < 1e-3


def test_wrong_shapes_are_named():
    model = tiny_model()
    with pytest.raises(ValueError, match=r"shape must be .* got \(2, 9\)"):
        model.with_shape(torch.zeros(2, 9, dtype=DOUBLE))
    with pytest.raises(ValueError, match=r"rotations must be .* got \(16, 3, 3\)"):
        model.with_shape(torch.zeros(2, 10, dtype=DOUBLE)).with_pose(torch.eye(3, dtype=DOUBLE).expand(16, 3, 3))
    with pytest.raises(ValueError, match="no principal components"):
        model.pca_to_pose(torch.zeros(2, 6))
