"""The paper's Tables 3 and 4 on rendered pairs: what each prior brings, what the teachers themselves would bring at test time, and stage 2.

    python benchmarks/priors.py OUT [--count N]

OUT is the folder of benchmarks/varieties.py, whose rows "no priors", "+ keypoints", "+ segmentation" and "everything" are the networks: equal
budgets, the same pictures. The scenes are the first of synthetic/two-hand-1000, rendered into OUT/data/two_hand with the maps that teachers would give.
Boxes are the true ones, and every hand that can be asked for counts, found or not: this measures reconstruction alone. XY is the error along the
picture, Z along the line of sight. Writes OUT/priors.json and prints the tables.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from twohands.collision.volume import hands_shared_volume_cm3
from twohands.data.shards import ShardSet, write_shard
from twohands.errors import UserError
from twohands.evaluation.judged import Prediction, Truth
from twohands.evaluation.sources import M_TO_MM
from twohands.evaluation.synthetic import BENCHMARKS
from twohands.evaluation.synthetic_rules import HIDDEN_TIERS, measure_synthetic
from twohands.geometry.camera import Camera
from twohands.hands.bundled import load_bundled_hand, load_hand_asset
from twohands.hands.parameters import HandParameters
from twohands.manifest import beside
from twohands.refine.refiner import Refiner
from twohands.regress.infer import Stage1, _own_reading
from twohands.schema import HandPair, Stage1Hands
from twohands.synth.photo import take_photo
from twohands.training.ablation import PriorKinds, load_small, plain_batches, with_priors
from twohands.training.pairs import PairBatch

NETWORKS: dict[str, tuple[str, PriorKinds]] = {
    "baseline, no priors": ("no_priors", "none"),
    "+ keypoints": ("with_keypoints", "keypoints"),
    "+ segmentation": ("with_segmentation", "parts"),
    "+ depth": ("everything", "depth"),
}
"""Row -> folder of the run, and its teachers."""
COLUMNS = ("MRRPE", "MPJPE", "MPVPE", "MPJPE-XY", "MPJPE-Z", "MPVPE-XY", "MPVPE-Z", "PA-MPJPE")


@dataclass(frozen=True)
class Options:
    """Judges what benchmarks/varieties.py has trained."""

    out: tyro.conf.Positional[Path]
    count: int = 300
    """Scenes, of a thousand."""


class Placing(Stage1):
    """Stage 1 on batches of crops that are made already. The alignment encoder's own keypoints take part in the fit in every row."""

    @torch.no_grad()
    def hands_of(self, batch: PairBatch, teachers: bool) -> Stage1Hands:
        """Both hands of every pair in its camera's frame; F_p enters in place of F_fa if the teachers are asked."""
        use = torch.full((len(batch.present),), teachers)
        prediction, _ = self.network(batch.crops, batch.view.geometry, batch.present, batch.priors, use)
        pair = HandPair(torch.zeros(*batch.present.shape, 4), torch.zeros(*batch.present.shape, 2), batch.present)
        camera = Camera(torch.ones(len(batch.present), 2), torch.zeros(len(batch.present), 2))  # only views say where hands are
        assert prediction.reading is not None
        return self._place(camera, pair, batch.view, prediction, _own_reading(batch.view, prediction.reading))


def main(options: Options) -> None:
    """Every row there is a network for."""
    torch.set_num_threads(1)
    shards, interacting = scenes(options.out / "data" / "two_hand", options.count)
    truth = truth_of(shards, interacting)
    hand = load_bundled_hand()
    rows: dict[str, dict[str, Any]] = {}
    last: Stage1Hands | None = None
    batches: list[PairBatch] = []
    for name, (run, kinds) in NETWORKS.items():
        weights = options.out / "runs" / run / "small.safetensors"
        if not weights.is_file():
            print(f"{name}: no network yet", file=sys.stderr)
            continue
        network = load_small(weights)
        batches = batches or plain_batches(network, shards)  # the frozen part is the same in all
        stage = Placing(network, hand, load_hand_asset().limits)
        for teachers in (False, True) if kinds != "none" else (False,):
            parts = [stage.hands_of(with_priors(batch, kinds), teachers) for batch in batches]
            hands = Stage1Hands(*(_joined([getattr(p, f) for p in parts]) for f in Stage1Hands.__dataclass_fields__))
            rows[name + (", teachers at test time" if teachers else "")] = judged(truth, hands.parameters)
            last = hands if kinds == "depth" and not teachers else last
    if last is not None:
        refined, volumes = stage_2(last, truth)
        rows["+ refinement"] = judged(truth, refined) | {"shared volume before, after (cm3)": volumes}
    with beside(options.out / "priors.json") as part:
        part.write_text(json.dumps(rows, indent=1))
    print(table(rows))


def _joined(values: list[Any]) -> Any:
    if isinstance(values[0], HandParameters):
        return HandParameters(*(torch.cat([getattr(v, f) for v in values]) for f in ("pose", "shape", "translation_m")))
    return torch.cat(values)


def scenes(folder: Path, count: int) -> tuple[ShardSet, np.ndarray]:
    """The first scenes of the benchmark as shards, and which of them interact."""
    recipe = BENCHMARKS["synthetic/two-hand-1000"].recipe
    for first in range(0, count, 50):
        path = folder / f"{first:05d}.npz"
        if not path.is_file():
            asked = [recipe(k) for k in range(first, min(first + 50, count))]
            write_shard(path, [take_photo(knobs, seed) for knobs, seed, _ in asked], [seed for _, seed, _ in asked])
    shards = ShardSet.read([folder / f"{first:05d}.npz" for first in range(0, count, 50)])
    return shards, np.array([recipe(k)[2] for k in range(len(shards))])


def truth_of(shards: ShardSet, interacting: np.ndarray) -> Truth:
    """What the judge compares with."""
    a, count = shards.arrays, len(shards)
    parameters = HandParameters(*(torch.from_numpy(a[name]) for name in ("pose", "shape", "translation_m")))
    vertices = load_bundled_hand().pose_hands(parameters).mesh().vertices_m.double().numpy() * M_TO_MM
    valid = a["hand_valid"].astype(bool)
    every = np.repeat(valid[..., None], 21, -1)
    joints = a["keypoints_camera_m"].astype(np.float64) * M_TO_MM
    ids = np.array([f"{k:05d}" for k in range(count)])
    return Truth(
        sample_id=ids, sequence=ids, interacting=interacting, hand_type_valid=np.ones(count, bool), shown=valid, joints_mm=joints, labelled=every,
        valid_3d=every, vertices_mm=vertices, mesh_valid=valid, mesh_joints_mm=joints, focal_px=a["focal_px"].astype(float),
        principal_px=a["principal_px"].astype(float) - 0.5, image_size_px=np.full((count, 2), 256.0),
        hidden_share=1 - (a["keypoint_visible"] > 0).mean(2), brightness=np.full(count, np.nan),
    )  # fmt: skip


@torch.no_grad()
def stage_2(hands: Stage1Hands, truth: Truth) -> tuple[HandParameters, tuple[float, float]]:
    """Pairs that pass through one another refined, as the pipeline does it; and the mean volume that pairs share before and after."""
    model = load_bundled_hand()
    volumes = np.array([_volume(hands.parameters[k]) for k in range(len(truth))])
    index = np.flatnonzero((volumes > 0) & truth.mesh_valid.all(1))
    pose, shape, place = (t.clone() for t in (hands.parameters.pose, hands.parameters.shape, hands.parameters.translation_m))
    after = volumes.copy()
    answer = Refiner.load().refine(model, hands.parameters[torch.from_numpy(index)], hands.keypoint_confidence[index])
    for row, k in enumerate(index):
        volume = _volume(answer.parameters[row])
        if bool(answer.refined[row]) and volume < volumes[k]:
            pose[k], shape[k], place[k] = answer.parameters.pose[row], answer.parameters.shape[row], answer.parameters.translation_m[row]
            after[k] = volume
    both = truth.mesh_valid.all(1)
    return HandParameters(pose, shape, place), (float(volumes[both].mean()), float(after[both].mean()))


def _volume(parameters: HandParameters) -> float:
    model = load_bundled_hand()
    return float(hands_shared_volume_cm3(model.closed_vertices(model.pose_hands(parameters).mesh().vertices_m), model.closed_faces()))


def judged(truth: Truth, parameters: HandParameters) -> dict[str, Any]:
    """Means of the benchmark's own measures: all, by group, by how much of a hand is hidden."""
    mesh = load_bundled_hand().pose_hands(parameters).mesh()
    joints = mesh.keypoints_m.double().numpy() * M_TO_MM
    prediction = Prediction(
        truth.sample_id, joints, np.ones(len(truth), bool), mesh.vertices_m.double().numpy() * M_TO_MM, joints[:, 0, 0] - joints[:, 1, 0],
        None, None, None, None,
    )  # fmt: skip
    result: dict[str, Any] = {}
    groups = {"all": np.ones(len(truth), bool), "interacting": truth.interacting, "apart": ~truth.interacting}
    for name, rows in groups.items():
        values = measure_synthetic(truth.take(rows), prediction.take(rows), None).values
        result[name] = {column: float(np.nanmean(values[column])) for column in COLUMNS}
        if name == "all":
            result["hidden"] = {tier: float(np.nanmean(values[f"MPJPE, {tier}"])) for tier in HIDDEN_TIERS}
    return result


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown, one table a group and one by occlusion."""
    lines = []
    for group in ("all", "interacting", "apart"):
        lines += [f"| {group} | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
        lines += [f"| {name} | {' | '.join(f'{row[group][c]:.1f}' for c in COLUMNS)} |" for name, row in rows.items()] + [""]
    lines += [f"| MPJPE | {' | '.join(HIDDEN_TIERS)} |", "|---" * (len(HIDDEN_TIERS) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{value:.1f}' for value in row['hidden'].values())} |" for name, row in rows.items()]
    volumes = next((row["shared volume before, after (cm3)"] for row in rows.values() if len(row) > 4), None)
    return "\n".join(lines) + (
        f"\n\nShared volume of pairs before and after stage 2: {volumes[0]:.2f}, {volumes[1]:.2f} cm3" if volumes else ""
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except UserError as error:
        sys.exit(f"error: {error}")
