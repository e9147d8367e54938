"""The fixed benchmark of stage 2: pairs that penetrate, half of them outputs of an early stage 1, half clean pairs with errors.

Both halves ship with the package (`refine/benchmark_stage1.npz` and `benchmark_errors.npz`, made by tools/make_refine_benchmark.py): stage 1 goes on
improving, and an early one would be lost; and another processor's rounding makes other pairs of the same seed. No bank that trains reaches these
seeds."""

from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from twohands.collision.proxies import SphereProxies
from twohands.errors import UserError
from twohands.hands.model import HandModel
from twohands.hands.parameters import HandParameters
from twohands.record import concatenate
from twohands.refine.benchmark import Answer
from twohands.refine.perturb import PerturbConfig, Perturbed, penetrates, perturb
from twohands.refine.refiner import FREE_CM3, RefineConfig, Refiner, shared_volumes_cm3
from twohands.synth.bank import HELD_OUT_SEED
from twohands.synth.interactions import sample_interactions

SEED = 9
STAGE1_PAIRS = 1000
_FIELDS = ("pose", "shape", "translation_m")


def benchmark_pairs(model: HandModel, count: int = 2000, seed: int = SEED) -> Perturbed:
    """`count` pairs, half from each way: the stored ones, the first of each half; with another seed than the benchmark's the second half is made
    here and now. UserError if more are asked for than there are."""
    if not 2 <= count <= 2 * STAGE1_PAIRS:
        raise UserError(f"the benchmark has 2 to {2 * STAGE1_PAIRS} pairs, {count} were asked for")
    rest = count - count // 2
    return concatenate([stage1_pairs()[: count // 2], error_pairs()[:rest] if seed == SEED else held_out_pairs(model, rest, seed)])


def held_out_pairs(model: HandModel, count: int, seed: int, config: PerturbConfig | None = None) -> Perturbed:
    """Clean pairs with errors that penetrate (by the exact volume), whose seeds no training bank reaches."""
    config = config or PerturbConfig()
    generator = torch.Generator().manual_seed(HELD_OUT_SEED + seed)
    proxies = SphereProxies.of(model.data)
    found: list[Perturbed] = []
    have, attempt = 0, 0
    with torch.no_grad():
        while have < count:
            clean = sample_interactions(model, int(1.3 * (count - have)) + 8, HELD_OUT_SEED + 1000 * seed + attempt)
            pairs = perturb(model, proxies, clean, generator, config)
            pairs = pairs[penetrates(model, proxies, pairs.parameters, config).nonzero()[:, 0]]
            pairs = pairs[(shared_volumes_cm3(model, pairs.parameters) > FREE_CM3).nonzero()[:, 0]]
            found.append(pairs)
            have, attempt = have + pairs.keypoint_confidence.shape[0], attempt + 1
            if attempt == 20:
                raise UserError(f"only {have} of the pairs drawn penetrate, {count} were asked for; use errors that are larger")
    return concatenate(found)[:count]


def stage1_pairs() -> Perturbed:
    """The stored first half: outputs of an early stage 1."""
    return _stored("benchmark_stage1.npz")


def error_pairs() -> Perturbed:
    """The stored second half: clean pairs with errors."""
    return _stored("benchmark_errors.npz")


def _stored(name: str) -> Perturbed:
    path = resources.files("twohands.refine") / name
    if not path.is_file():
        raise UserError(f"the package lacks refine/{name}; reinstall twohands, or run tools/make_refine_benchmark.py")
    with path.open("rb") as file, np.load(file) as stored:
        arrays = {key: torch.from_numpy(stored[key]).float() for key in stored.files}
    clean, parameters = (HandParameters(*(arrays[f"{what}.{field}"] for field in _FIELDS)) for what in ("clean", "parameters"))
    return Perturbed(clean, parameters, arrays["keypoint_confidence"])


def write_stage1_pairs(path: Path, pairs: Perturbed) -> None:
    """Stores outputs of stage 1: truth in single precision, so that it stays free of penetration, stage 1's answers in half."""
    arrays = pairs.arrays()
    small = {name: array if name.startswith("clean.") else array.astype(np.float16) for name, array in arrays.items()}
    np.savez_compressed(path, **small)  # type: ignore[arg-type]


def ablated(refiner: Refiner) -> Iterator[tuple[str, Answer]]:
    """Variants of the method, each with its name."""

    ours = refiner.config

    def variant(config: RefineConfig) -> Answer:
        other = Refiner(refiner.denoiser, config)
        return lambda model, pairs: other.refine(model, pairs.parameters, pairs.keypoint_confidence).parameters

    yield "as it ships", variant(ours)
    for strength in (0.0, 0.02, 0.05, 0.2):
        yield f"guidance {strength:g}", variant(replace(ours, guidance=strength))
    for steps in (2, 4, 8, 16, 50):
        yield f"{steps} steps", variant(replace(ours, steps=steps))
    for steps in (4, 50):
        yield f"{steps} steps, temperature 1", variant(replace(ours, steps=steps, temperature=1.0))
    for spheres in (48, 192):
        yield f"{spheres} spheres", variant(replace(ours, spheres=spheres))
    stiff = replace(ours.projection, give_way=replace(ours.projection.give_way, finger_rad=(0.01, 0.01, 0.01), thumb_rad=0.01))
    yield "projection alone", variant(replace(ours, steps=0))
    yield "wrists give way before fingers", variant(replace(ours, projection=stiff))
    yield "guidance, no projection", variant(replace(ours, project=False))
    yield "no confidence", lambda model, pairs: refiner.refine(model, pairs.parameters).parameters
