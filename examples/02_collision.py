"""Two hands that pass through one another: how much they share, exactly, and how a gradient pulls them apart.

python examples/02_collision.py
"""

import torch

from twohands.collision.energy import penetration_energy
from twohands.collision.proxies import SphereProxies
from twohands.collision.volume import hands_shared_volume_cm3
from twohands.hands.bundled import load_bundled_hand
from twohands.hands.parameters import HandParameters


def main(steps: int = 60) -> tuple[float, float]:
    model = load_bundled_hand()
    spheres = SphereProxies.of(model.data)
    shape = torch.zeros(2, 10)
    apart = torch.tensor([[-0.09, 0.0, 0.0], [0.09, 0.015, 0.0]])
    # At rest the fingers of the left hand point along +x, those of the right along -x: here palm lies in back.
    translation = apart.clone().requires_grad_()

    def parameters() -> HandParameters:
        return HandParameters(torch.zeros(2, 16, 3), shape, translation)

    def shared_cm3() -> float:
        mesh = model.pose_hands(parameters()).mesh()
        return float(hands_shared_volume_cm3(model.closed_vertices(mesh.vertices_m), model.closed_faces()))

    before = shared_cm3()
    optimiser = torch.optim.Adam([translation], lr=0.001)
    for _ in range(steps):
        optimiser.zero_grad()
        penetration_energy(spheres.centres_posed(model.pose_hands(parameters())), spheres.radii(shape)).backward()
        optimiser.step()
    after = shared_cm3()
    moved_mm = 1000 * (translation.detach() - apart).norm(dim=-1)
    print(f"shared volume: {before:.2f} cm3 before, {after:.3f} cm3 after {steps} steps; hands moved by {moved_mm.tolist()} mm")
    return before, after


if __name__ == "__main__":
    main()
