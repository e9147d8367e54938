"""Fits the sphere proxies of the bundled hand, measures them and writes src/twohands/hands/assets/spheres.npz and SPHERES.md.

Run after every change of hand.npz: python tools/fit_spheres.py
"""

import argparse
import time
from pathlib import Path

import igl
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twohands.collision.proxies import BUNDLED_COUNTS, SphereProxies, hand_digest
from twohands.collision.sphere_fit import FitConfig, FittedSpheres, fit_spheres, neighbouring_parts
from twohands.geometry.rotations import rotvec_to_matrix
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.model import PosedHands

ASSETS = Path(__file__).parents[1] / "src" / "twohands" / "hands" / "assets"
FIT_MESHES, FIT_STEPS = 240, 600
FIST_DEGREES = {1: 80.0, 2: 95.0, 3: 60.0}


def pose_right(angles_rad: Float[Tensor, "mesh 16 3"], shape: Float[Tensor, "mesh 10"]) -> PosedHands:
    """Right hands (the left ones beside them hold garbage) of these joint angles about flexion, spread and twist axes."""
    rotvec = load_hand_asset().limits.angles_to_rotvec(angles_rad)
    both = rotvec_to_matrix(rotvec)[:, None].expand(-1, 2, -1, -1, -1)
    return load_bundled_hand().with_shape(shape[:, None].expand(-1, 2, -1)).with_pose(both)


def random_angles(count: int, generator: torch.Generator) -> Float[Tensor, "mesh 16 3"]:
    """Uniform within the joint limits; the wrist stays."""
    limits = load_hand_asset().limits.limits_rad
    angles = limits[..., 0] + (limits[..., 1] - limits[..., 0]) * torch.rand(count, 16, 3, generator=generator)
    angles[:, 0] = 0
    return angles


def fist_angles() -> Float[Tensor, "1 16 3"]:
    """Four fingers curled, the thumb over them."""
    angles = torch.zeros(1, 16, 3)
    for joint in range(1, 13):
        angles[0, joint, 0] = np.deg2rad(FIST_DEGREES[(joint - 1) % 3 + 1])
    angles[0, 13] = torch.tensor([20.0, -5.0, 15.0]).deg2rad()
    angles[0, 14:, 0] = torch.tensor([40.0, 55.0]).deg2rad()
    return angles


def skin_faces() -> np.ndarray:
    """The faces of the hand without the lid on its wrist: the fan around the one vertex that sees the whole rim."""
    asset = load_hand_asset()
    faces, rim = asset.faces.numpy(), np.isin(asset.faces.numpy(), asset.wrist_loop.numpy())
    touching = faces[rim.sum(1) == 2][~rim[rim.sum(1) == 2]]
    centre = np.bincount(touching).argmax()
    return faces[~(faces == centre).any(1)]


def measure(proxies: SphereProxies, posed: PosedHands, shape: Float[Tensor, "mesh 10"], samples: int = 60_000) -> str:
    """One row of the table in SPHERES.md, over all meshes handed in."""
    vertices, centres = posed.mesh().vertices_m[:, 1].double(), proxies.centres_posed(posed)[:, 1].double()
    radii = proxies.radii(shape[:, None].expand(-1, 2, -1))[:, 1].double()
    faces = load_bundled_hand().faces[1].numpy()
    vertex_part = load_hand_asset().part.numpy()
    stranger = torch.from_numpy(~neighbouring_parts()[np.ix_(vertex_part, proxies.part[1].numpy())]).double()
    rng = np.random.default_rng(0)
    skin, covered, outside, protrusion = [], [], [], []
    for mesh, centre, radius in zip(vertices, centres, radii, strict=True):
        skin.append((torch.cdist(mesh, centre) - radius + stranger).min(1).values.numpy() * 1e3)
        low, high = mesh.min(0).values.numpy() - 5e-3, mesh.max(0).values.numpy() + 5e-3
        points = rng.uniform(low, high, (samples, 3))
        within_hand = igl.fast_winding_number(mesh.numpy(), faces, points) > 0.5
        within_spheres = (torch.cdist(torch.from_numpy(points), centre) < radius).any(1).numpy()
        covered.append((within_hand & within_spheres).sum() / within_hand.sum())
        outside.append((within_spheres & ~within_hand).sum() / within_hand.sum())
        unit = rng.normal(size=(200, 3))
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        shell = (centre[:, None] + radius[:, None, None] * torch.from_numpy(unit)).flatten(0, 1)
        bare = ((torch.cdist(shell, centre) - radius).min(1).values > -1e-9).numpy()
        kind = igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER
        protrusion.append(np.asarray(igl.signed_distance(shell.numpy()[bare], mesh.numpy(), faces, sign_type=kind)[0]) * 1e3)
    distance, out = np.concatenate(skin), np.concatenate(protrusion)
    numbers = [
        f"{100 * np.mean(covered):.1f} %",
        f"{100 * np.mean(outside):.1f} %",
        *(f"{value:.2f}" for value in (np.abs(distance).mean(), np.percentile(np.abs(distance), 95), distance.max())),
        *(f"{value:.2f}" for value in (np.percentile(out, 95), out.max())),
    ]
    return " | ".join(numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=BUNDLED_COUNTS)
    parser.add_argument("--steps", type=int, default=FIT_STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    hand, asset = load_bundled_hand(), load_hand_asset()
    generator = torch.Generator().manual_seed(0)
    # Half of the poses are half as wide: hands are rarely at all their limits at once.
    angles = random_angles(FIT_MESHES, generator)
    angles[::2] *= 0.5
    angles[0], shape = 0, torch.randn(FIT_MESHES, 10, generator=generator)
    shape[0] = 0
    posed = pose_right(angles, shape).mesh().vertices_m[:, 1].numpy()

    tests = {
        "rest": (torch.zeros(1, 16, 3), torch.zeros(1, 10)),
        "fist": (fist_angles(), torch.zeros(1, 10)),
        "20 random poses and shapes": (random_angles(20, torch.Generator().manual_seed(1)), torch.randn(20, 10, generator=generator)),
    }
    arrays: dict[str, np.ndarray] = {"hand_digest": np.array(hand_digest(hand.data))}
    rows = []
    for count in arguments.counts:
        start = time.perf_counter()
        config = FitConfig(count=count, steps=arguments.steps)
        right: FittedSpheres = fit_spheres(
            asset.v_template.numpy(), skin_faces(), asset.shapedirs.numpy(), asset.weights.numpy(), posed, shape.numpy(), config
        )
        for name in ("vertex_index", "vertex_weight", "radius_m", "radius_shape_m"):
            arrays[f"spheres{count}_{name}"] = getattr(right, name)
        proxies = SphereProxies.attach(hand.data, right, right)
        print(f"{count} spheres fitted in {time.perf_counter() - start:.0f} s, radii {1e3 * right.radius_m.min():.1f} to "
              f"{1e3 * right.radius_m.max():.1f} mm")  # fmt: skip
        for name, (test_angles, test_shape) in tests.items():
            row = f"| {count} | {name} | {measure(proxies, pose_right(test_angles, test_shape), test_shape)} |"
            print(row, flush=True)
            rows.append(row)
    np.savez_compressed(ASSETS / "spheres.npz", **arrays)  # type: ignore[arg-type]  # the stub takes every keyword for allow_pickle
    (ASSETS / "SPHERES.md").write_text(SPHERES_MD.format(rows="\n".join(rows), meshes=FIT_MESHES, steps=arguments.steps))


SPHERES_MD = """# Sphere proxies

`spheres.npz` holds the spheres that stand in for the bundled right hand in collision energies (the left hand mirrors them). Made from
`hand.npz` by `python tools/fit_spheres.py` and, like it, CC0. `hand_digest` in the file names the mesh; the loader refuses any other.

A greedy cover of the skin by spheres of the medial axis, then {steps} gradient steps on weights and radii so that the skin of {meshes}
random poses and shapes lies on the union of the spheres; the lid on the wrist is left bare, since an arm goes on there. For each set (48,
96, 192 spheres), with prefix `spheres<count>_`: `vertex_index` and `vertex_weight` (a centre is that convex combination of 12 skin
vertices), `radius_m`, `radius_shape_m` (metres per standard deviation of each shape coefficient).

Covered: share of the hand's volume within a sphere. Outside: volume of the spheres outside the hand, as a share of the hand's. Skin:
distance in mm from each skin vertex to the union of the spheres of its own and neighbouring parts (largest: skin left bare). Protrusion:
how far the union's surface lies outside the skin, mm. The random poses are uniform within the joint limits and were not fitted to; many of
them pass through themselves.

| spheres | pose | covered | outside | skin mean | skin 95 % | skin largest | protrusion 95 % | protrusion largest |
|---|---|---|---|---|---|---|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
