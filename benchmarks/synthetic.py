"""Stage 1 and the whole product on held-out synthetic photos (made from seeds that no training uses).

    python benchmarks/synthetic.py [--count 500] [--seed 1900] [--prior encoder|teacher] [--boxes truth|detector]

With `--boxes truth` stage 1 gets the true boxes and directions, so that only it is measured; with `--boxes detector` the whole product runs and
hands that it misses are counted. Prints MPJPE and MPVPE (wrist-aligned, no scale), PA-MPJPE, MRRPE (left minus right wrist) in mm, PCK@.1, and
the exact shared volume in cm3. These are scores on synthetic photos."""

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import twohands
from twohands.evaluation.metrics import mpjpe_mm, mpvpe_mm, mrrpe_mm, pa_mpjpe_mm
from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_bundled_hand
from twohands.schema import Detection, Sample
from twohands.synth.generate import SEED_STRIDE
from twohands.synth.photo import take_photo
from twohands.synth.scene import SceneKnobs


@dataclass
class Tally:
    """Errors by group of scenes."""

    hands: int = 0
    found: int = 0
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def row(self) -> dict[str, float | int]:
        means = {name: float(np.mean(v)) for name, v in sorted(self.values.items())}
        return {"hands": self.hands, "found": self.found, **means}


def true_detection(sample: Sample) -> Detection:
    """What a perfect detector would say."""
    valid = sample.hand_valid
    along = sample.keypoints_xy[:, 9] - sample.keypoints_xy[:, 0]
    direction = torch.nn.functional.normalize(along, dim=-1)
    count = int(valid.sum())
    right = torch.tensor([0.0, 1.0])[valid]
    return Detection(sample.box_xyxy_px[valid], torch.ones(count), right, direction[valid], (0,) * count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1900)
    parser.add_argument("--prior", choices=("encoder", "teacher"), default="encoder")
    parser.add_argument("--boxes", choices=("truth", "detector"), default="truth")
    parser.add_argument("--no-refine", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = twohands.load(prior=args.prior)
    hand = load_bundled_hand()
    tallies = {"all": Tally(), "one hand": Tally(), "two hands": Tally()}
    volumes: list[tuple[float, float]] = []
    started = time.perf_counter()
    for k in tqdm(range(args.count)):
        sample = take_photo(SceneKnobs(), args.seed * SEED_STRIDE + k)
        image = sample.image.permute(1, 2, 0).numpy()
        camera = sample.camera
        if args.boxes == "truth":
            result = model.from_detection(image, camera, true_detection(sample), refine=not args.no_refine)
        else:
            result = model.reconstruct(image, intrinsics=Camera.matrix(camera).numpy(), refine=not args.no_refine)
        truth = hand.pose_hands(sample.parameters).mesh()
        group = "two hands" if bool(sample.hand_valid.all()) else "one hand"
        best = max(result.people, key=lambda p: int((p.hand_present & sample.hand_valid).sum()), default=None)
        if best is not None and bool(best.hand_present.all()):
            volumes.append((best.penetration_before_cm3, best.penetration_cm3))
        for name in ("all", group):
            tally = tallies[name]
            for h in (0, 1):
                if not sample.hand_valid[h]:
                    continue
                tally.hands += 1
                if best is None or not best.hand_present[h]:
                    continue
                tally.found += 1
                p, t = best.keypoints_m[h].numpy() * 1000, truth.keypoints_m[h].numpy() * 1000
                pv, tv = best.vertices_m[h].numpy() * 1000, truth.vertices_m[h].numpy() * 1000
                tally.add("mpjpe_mm", float(mpjpe_mm(p, t)))
                tally.add("pa_mpjpe_mm", float(pa_mpjpe_mm(p, t)))
                tally.add("mpvpe_mm", float(mpvpe_mm(pv, tv, p[0], t[0])))
                size = float((sample.box_xyxy_px[h, 2:] - sample.box_xyxy_px[h, :2]).max())
                error = (best.keypoints_xy[h] - sample.keypoints_xy[h]).norm(dim=-1) / size
                tally.add("pck@0.1", float((error < 0.1).float().mean()))
            if best is not None and bool((best.hand_present & sample.hand_valid).all()):
                wrists = best.keypoints_m[:, 0].numpy() * 1000
                tally.add("mrrpe_mm", float(mrrpe_mm(wrists, truth.keypoints_m[:, 0].numpy() * 1000)))
    report = {name: tally.row() for name, tally in tallies.items()}
    penetrating = [v for v in volumes if v[0] > 0.001]
    report["penetration"] = {
        "pairs": len(volumes),
        "penetrating": len(penetrating),
        "before_cm3": float(np.mean([v[0] for v in penetrating])) if penetrating else 0.0,
        "after_cm3": float(np.mean([v[1] for v in penetrating])) if penetrating else 0.0,
    }
    seconds = time.perf_counter() - started
    print(f"synthetic, {args.count} scenes of seed {args.seed}, boxes: {args.boxes}, prior: {model.prior_source}, {seconds:.0f} s")
    for name, row in report.items():
        print(f"{name:12s} " + "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
