"""Numbers of stage 2 on pairs whose truth is known."""

import time

import torch
from jaxtyping import Float
from torch import Tensor

from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.refine.perturb import Perturbed
from twohands.refine.refiner import Refiner, shared_volumes_cm3

TOUCH_CM3 = 0.01


def keypoint_errors_mm(
    model: HandModel, parameters: HandParameters, truth: HandParameters
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
    """MPJPE (21 keypoints, each hand relative to its own wrist, mean of both hands) and MRRPE (error of the vector between the wrists)."""
    found, true = model.pose_hands(parameters).keypoints(), model.pose_hands(truth).keypoints()
    root_relative = (found - found[:, :, :1]) - (true - true[:, :, :1])
    between = (found[:, 0, 0] - found[:, 1, 0]) - (true[:, 0, 0] - true[:, 1, 0])
    return 1e3 * root_relative.norm(dim=-1).mean((1, 2)), 1e3 * between.norm(dim=-1)


def score_refiner(refiner: Refiner, model: HandModel, pairs: Perturbed, batch: int = 50) -> dict[str, float]:
    """Means over pairs before and after refinement: exact volume, share of pairs at most 0.01 cm³, MPJPE, MRRPE, time."""
    count = pairs.keypoint_confidence.shape[0]
    start = time.perf_counter()
    results = [
        refiner.refine(model, pairs.parameters[i : i + batch], pairs.keypoint_confidence[i : i + batch]) for i in range(0, count, batch)
    ]
    seconds = time.perf_counter() - start
    after = HandParameters(
        torch.cat([r.parameters.pose for r in results]),
        torch.cat([r.parameters.shape for r in results]),
        torch.cat([r.parameters.translation_m for r in results]),
    )
    volume_before, volume_after = (torch.cat([getattr(r, f"volume_{when}_cm3") for r in results]) for when in ("before", "after"))
    mpjpe_before, mrrpe_before = keypoint_errors_mm(model, pairs.parameters, pairs.clean)
    mpjpe_after, mrrpe_after = keypoint_errors_mm(model, after, pairs.clean)
    return {
        "pairs": float(count),
        "pen_cm3_mean_before": float(volume_before.mean()),
        "pen_cm3_mean": float(volume_after.mean()),
        "pen_cm3_mean_truth": float(shared_volumes_cm3(model, pairs.clean).mean()),
        "pen_cm3_share_below_0_01_before": float((volume_before <= TOUCH_CM3).float().mean()),
        "pen_cm3_share_below_0_01": float((volume_after <= TOUCH_CM3).float().mean()),
        "mpjpe_mm_before": float(mpjpe_before.mean()),
        "mpjpe_mm": float(mpjpe_after.mean()),
        "mrrpe_mm_before": float(mrrpe_before.mean()),
        "mrrpe_mm": float(mrrpe_after.mean()),
        "refined_share": float(torch.cat([r.refined for r in results]).float().mean()),
        "ms_per_pair": 1e3 * seconds / count,
    }
