"""The paper's recipe on its own five data sets, as named experiments: `twohands train paper`.

What the paper states (arXiv 2503.17788): ResNet-50 for the image and for the alignment encoder, Sapiens as teacher, InterHand2.6M, Re:InterHand,
COCO-WholeBody, FreiHAND and HO-3D, AdamW at 1e-4, a tenth of it from the 4th epoch on, batches of 48 over four GPUs; a denoiser that is a
transformer of 21.6 M parameters (74.2 M with it, 52.6 M without), 1,000 steps of noise on a cosine schedule, trained on InterHand2.6M and
Re:InterHand. What it leaves open is filled from InterWild, whose settings it says it follows, or chosen here; each such choice says so.

Data come as shards: `twohands data shards NAME DIR --out DATA/NAME` for each data set; lessons of Sapiens, if there are any, as caches:
`twohands teach DATA/NAME --teacher sapiens ... --out LESSONS/NAME`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from twohands.data.shards import ShardSet
from twohands.errors import UserError
from twohands.manifest import beside
from twohands.refine.denoiser import DenoiserConfig
from twohands.regress.network import PAPER, RegressorConfig
from twohands.training.fit import ONE_PROCESS, FitConfig, Machines
from twohands.training.refiner import RefinerTraining
from twohands.training.regressor import RegressorTraining

MIXTURE = {"interhand26m": 0.4, "reinterhand": 0.15, "coco_wholebody": 0.25, "freihand": 0.1, "ho3d": 0.1}
"""How often each data set is drawn. Ours: the paper prints no weights. InterWild draws its 3D and 2D pools alike; here COCO, the only 2D pool, is
half as common, since three more data sets with 3D stand beside it."""
PAIR_DATA = ("interhand26m", "reinterhand")
"""Those with two hands in 3D, for stage 2."""
BATCH, PARTS = 48, 4
"""One part a GPU of the paper's four. Fewer processes make several parts each, so that the batches are the same however many there are."""
STEPS_AN_EPOCH = 1_361_062 // BATCH
"""An epoch is as many images as InterHand2.6M's training set has: with data mixed by weight there is no other natural one."""
EPOCHS, DROP_AFTER_EPOCH = 7, 4
"""InterWild's length; its rate falls after epoch 4, counted from 0 to 6."""

REHEARSAL = RegressorConfig(
    trunk="residual", crop_px=64, stem=16, widths=(16, 16, 32, 32), depths=(1, 1, 1, 1), align_widths=(16, 16, 32, 32), align_depths=(1, 1, 1, 1),
    prior_width=32, width=32, heads=2, depth=1, pyramid=16, hidden=64,
)  # fmt: skip
"""A network that a laptop trains in minutes, at ten times the rate; everything else of the recipe as it is."""
DENOISER = DenoiserConfig(width=512, depth=5, heads=4, expansion=3)
"""MDM's width and heads; depth and feed-forward are chosen so that the number of parameters, 21.8 M, is the paper's 21.6 M."""
DENOISER_REHEARSAL = DenoiserConfig(width=64, depth=2, heads=4)
REFINER = RefinerTraining(rate=1e-4, first_share=0.0, checkpoint_steps=2000, parts=PARTS)
"""Every step of noise is trained, since the paper samples through all of them; the denoiser that ships is trained for few steps."""
REFINER_BATCH, REFINER_STEPS = 64, 200_000
"""MDM's batch; the number of steps is ours."""


def shard_folders(data: Path, without: tuple[str, ...] = ()) -> dict[str, Path]:
    """The folders of shards of the recipe's data sets. UserError that names every one that is missing and the command that makes it."""
    if unknown := sorted(set(without) - set(MIXTURE)):
        raise UserError(f"{unknown} is no data set of the recipe; they are {sorted(MIXTURE)}")
    wanted = {name: data / name for name in MIXTURE if name not in without}
    if missing := [name for name, folder in wanted.items() if not any(folder.glob("*.npz"))]:
        make = "; ".join(f"twohands data shards {name} FOLDER --out {data / name}" for name in missing)
        raise UserError(f"there are no shards of {', '.join(missing)} in {data}; make them ({make}), or leave them out (--without)")
    if not wanted:
        raise UserError("every data set of the recipe was left out; keep at least one")
    return wanted


def stage_1(
    out: Path,
    data: Path,
    lessons: Path | None = None,
    without: tuple[str, ...] = (),
    steps: int | None = None,
    seed: int = 0,
    machines: Machines = ONE_PROCESS,
    rehearsal: bool = False,
    validation: int = 200,
) -> RegressorTraining:
    """Stage 1 of the paper. `lessons` holds a cache of a teacher for some or all of the data sets, under their names; their maps then take the
    place of the shards' own. UserError for data that are missing."""
    folders = shard_folders(data, without)
    caches = tuple(None if lessons is None or not (lessons / name).is_dir() else lessons / name for name in folders)
    if lessons is not None and not any(caches):
        raise UserError(f"there are no lessons in {lessons}; make some with `twohands teach {data}/NAME --out {lessons}/NAME`")
    fit = stage_1_fit(out, steps, seed, machines, rehearsal)
    network = REHEARSAL if rehearsal else PAPER
    return RegressorTraining(
        fit, tuple(folders.values()), tuple(MIXTURE[name] for name in folders), network, BATCH // PARTS,
        validation=validation, lessons=caches,
    )  # fmt: skip


def stage_1_fit(out: Path, steps: int | None = None, seed: int = 0, machines: Machines = ONE_PROCESS, rehearsal: bool = False) -> FitConfig:
    """How stage 1 of the paper is optimised, on whatever data."""
    steps = steps or EPOCHS * STEPS_AN_EPOCH
    return FitConfig(
        out, steps, learning_rate=1e-3 if rehearsal else 1e-4, warmup_steps=min(500, steps // 20), schedule="drops",
        drops=(DROP_AFTER_EPOCH / EPOCHS,), checkpoint_steps=min(2000, max(1, steps // 20)), average=0.999 if steps > 5000 else 0.99, seed=seed,
        parts=PARTS, devices=machines.devices, nodes=machines.nodes, workers=machines.workers, accelerator=machines.accelerator,
        precision="32-true" if rehearsal else "bf16-mixed",
    )  # fmt: skip


def stage_2(steps: int | None = None, rehearsal: bool = False) -> tuple[DenoiserConfig, RefinerTraining]:
    """The denoiser of stage 2 and how it is trained."""
    if not rehearsal:
        return DENOISER, REFINER
    # A rate that a small network bears, and checkpoints that come often enough for a short run.
    return DENOISER_REHEARSAL, replace(REFINER, rate=3e-3, warmup_steps=20, checkpoint_steps=max(1, (steps or REFINER_STEPS) // 20))


def bank_of_fits(path: Path, data: Path, without: tuple[str, ...] = (), farthest_m: float = 0.3) -> int:
    """Writes the two-hand poses of InterHand2.6M and Re:InterHand as a bank of clean pairs for stage 2; returns their number. A bank that is there
    is kept.

    Pairs whose wrists are farther apart than `farthest_m` do not interact. Whether the fits themselves penetrate is for the trainer to judge, which
    takes penetrating pairs as they are: InterHand2.6M's do, a little (docs/TRAINING.md)."""
    if path.is_file():
        with np.load(path) as stored:
            return len(stored["pose"])
    parts: list[dict[str, np.ndarray]] = []
    for name in (n for n in PAIR_DATA if n not in without):
        for shard in sorted((data / name).glob("*.npz")):
            a = ShardSet.read([shard]).arrays
            both = (a["hand_valid"] & a["parameters_valid"].astype(bool)).all(1)
            wrists = a["keypoints_camera_m"][:, :, 0]
            near = np.linalg.norm(wrists[:, 0] - wrists[:, 1], axis=-1) < farthest_m
            parts.append({field: a[field][both & near] for field in ("pose", "shape", "translation_m")})
    if not sum(len(p["pose"]) for p in parts):
        raise UserError(f"there are no pairs of hands with parameters in {data}; make shards of {' and '.join(PAIR_DATA)} with --mano")
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {field: np.concatenate([p[field] for p in parts]) for field in parts[0]}
    with beside(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return len(arrays["pose"])
