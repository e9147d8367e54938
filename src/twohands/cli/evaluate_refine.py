"""`twohands evaluate refine`: stage 2 and its rivals on the fixed benchmark."""

import json as json_format
import os
import sys
from pathlib import Path
from typing import Literal

from twohands.cli.app import app
from twohands.cli.console import say
from twohands.errors import UserError

MethodName = Literal["input", "optimisation", "diffusion", "paper_guidance", "ours"]
_COLUMNS = (
    ("pen_cm3_mean", "PenVol cm3", ".4f"), ("pen_cm3_share_below_0_01", "<= .01 cm3", ".4f"), ("mpjpe_mm", "MPJPE mm", ".2f"),
    ("mpvpe_mm", "MPVPE mm", ".2f"), ("mrrpe_mm", "MRRPE mm", ".2f"), ("contact_kept", "contact kept", ".3f"),
    ("prox_ratio", "ProxRatio", ".3f"), ("pen_dist_mm", "PenDist mm", ".3f"), ("right_joints_moved_mm", "right moved mm", ".2f"),
    ("ms_per_pair", "ms a pair", ".1f"), ("pairs_per_s", "pairs/s", ".1f"),
)  # fmt: skip


@app.command(name="evaluate-refine")
def evaluate_refine(
    json: Path | None = None,
    pairs: int = 2000,
    methods: tuple[MethodName, ...] = ("input", "optimisation", "diffusion", "paper_guidance", "ours"),
    weights: Path | None = None,
    ablations: bool = False,
    ablation_pairs: int = 400,
    threads: int | None = None,
    batch: int = 64,
) -> int:
    """Score stage 2 on the fixed benchmark: pairs that penetrate, half of them outputs of an early stage 1, half clean pairs with errors.

    `input` is what comes in; `optimisation` gradient descent on the collision energy with a pose prior; `diffusion` the denoiser without
    guidance; `paper_guidance` the denoiser guided by the paper's loss (equations 5 and 6); `ours` what `twohands refine` does. The pairs are
    synthetic, and the same every time.

    Args:
        json: File for the numbers: method -> metric -> value.
        pairs: How many pairs; fewer are a quick look, the first of each half.
        methods: Which methods.
        weights: The denoiser; the package's by default.
        ablations: Also score the variants of `ours` (guidance, steps, spheres, confidence, projection).
        ablation_pairs: On how many of the pairs, the first of each half.
        threads: Of the processor; all cores by default.
        batch: Pairs at a time where the rate is measured.
    """
    if batch < 1 or (threads is not None and threads < 1):
        raise UserError(f"--batch ({batch}) and --threads ({threads}) must be at least 1")
    if ablations and not 2 <= ablation_pairs <= pairs:
        raise UserError(f"--ablation-pairs is {ablation_pairs}; give 2 to --pairs ({pairs})")
    if json is not None and not json.parent.is_dir():
        raise UserError(f"there is no folder {json.parent} for {json.name}; make it, or write elsewhere")

    import torch

    from twohands.hands.bundled import load_bundled_hand
    from twohands.refine.benchmark import answer_of, near_each_other, score_method
    from twohands.refine.refiner import Refiner
    from twohands.training.refine_benchmark import ablated, benchmark_pairs

    torch.set_num_threads(threads or os.cpu_count() or 1)
    model, refiner = load_bundled_hand(), Refiner.load(weights)
    say("twohands: making the benchmark's pairs", sys.stderr)
    chosen = benchmark_pairs(model, pairs)
    near = torch.cat([near_each_other(model, chosen.clean[i : i + batch]) for i in range(0, pairs, batch)])
    scores: dict[str, dict[str, float]] = {}
    for method in methods:
        scores[method], measured = score_method(answer_of(method, refiner), model, chosen, near, batch)
        for name, part in (("stage1", slice(None, pairs // 2)), ("noise", slice(pairs // 2, None))):
            scores[method] |= {
                f"{key}_{name}": float(getattr(measured, key)[part].mean()) for key in ("mpjpe_mm", "mrrpe_mm", "volume_cm3")
            }
        say(f"twohands: {method} done", sys.stderr)
    print(
        f"{pairs} synthetic pairs that penetrate, half outputs of an early stage 1, half clean pairs with errors; {torch.get_num_threads()} threads"
    )
    print(table(scores))
    if ablations:
        few = ablation_pairs
        rows = torch.cat([torch.arange(few // 2), pairs // 2 + torch.arange(few - few // 2)])
        variants = {}
        for name, answer in ablated(refiner):
            variants[name], _ = score_method(answer, model, chosen[rows], near[rows], batch, singles=20)
            say(f"twohands: {name} done", sys.stderr)
        print(f"\nVariants, on {few} of the pairs")
        print(table(variants))
        scores |= {f"ablation: {name}": values for name, values in variants.items()}
    if json is not None:
        beside = json.with_name(f".{json.name}.{os.getpid()}.part")
        beside.write_text(json_format.dumps(scores, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, json)
        print(f"numbers in {json}")
    return 0


def table(scores: dict[str, dict[str, float]]) -> str:
    """The scores as a Markdown table."""
    lines = ["| method | " + " | ".join(title for _, title, _ in _COLUMNS) + " |", "|---" * (len(_COLUMNS) + 1) + "|"]
    for method, values in scores.items():
        lines.append(f"| {method} | " + " | ".join(format(values[key], form) for key, _, form in _COLUMNS) + " |")
    return "\n".join(lines)
