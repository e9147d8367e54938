"""`twohands refine`: stage 2 alone, for hands that anything made."""

from pathlib import Path
from typing import Literal

import tyro

from twohands.cli.app import app
from twohands.cli.console import make_folder, say
from twohands.errors import UserError


@app.command
def refine(
    hands: tyro.conf.Positional[Path],
    out: Path | None = None,
    mano: Path | None = None,
    flat_hand_mean: bool = False,
    camera_frame: bool = True,
    batch: int = 64,
    device: Literal["cpu", "cuda"] = "cpu",
) -> int:
    """Part hands that pass through one another: two hands in, the same two hands out, sharing no volume.

    HANDS is an NPZ of `twohands photo`, or MANO parameters of any other estimator as NPZ or JSON (docs/REFINE.md). The result has the same
    format, with the exact shared volume before and after. The exit code is 0 if every pair is free of penetration then, 1 if one is not.

    Args:
        hands: NPZ or JSON of hands.
        out: Where to write; NAME.refined.npz or .json beside the input by default.
        mano: Folder with MANO_LEFT.pkl and MANO_RIGHT.pkl, for parameters of MANO.
        flat_hand_mean: MANO poses are relative to the flat hand; off, to MANO's mean pose, as smplx has it by default.
        camera_frame: The hands are in their camera's frame (OpenCV axes), so that stage 2 knows the line of sight.
        batch: Pairs at a time.
        device: Where the network runs.
    """
    if batch < 1:
        raise UserError(f"--batch is {batch}; give at least 1")

    from twohands.refine.files import SIDES, read_hands, write_hands

    file = read_hands(hands)
    if not bool(file.both.any()):
        raise UserError(f"{hands} has no pair with both hands; stage 2 refines two hands against each other")
    if file.hand_model == "mano" and mano is None:
        raise UserError(
            f"{hands} holds parameters of MANO; give --mano FOLDER with MANO_LEFT.pkl and MANO_RIGHT.pkl (mano.is.tue.mpg.de), or say "
            'hand_model "bundled" in the file if they are of the hand that ships with this program'
        )
    out = out or hands.with_name(f"{hands.stem}.refined{hands.suffix}")
    make_folder(out.parent)

    from twohands.hands.bundled import load_bundled_hand
    from twohands.hands.mano import load_mano
    from twohands.refine.refiner import Refiner, refine_pairs

    # This program's own files are relative to the flat hand, whatever the model.
    flat = flat_hand_mean or file.form == "twohands"
    model = load_bundled_hand() if mano is None or file.hand_model == "bundled" else load_mano(mano, flat_hand_mean=flat)
    result = refine_pairs(Refiner.load(device=device), model, file.parameters, file.keypoint_confidence, file.both, camera_frame, batch)
    write_hands(out, file, result, model)
    for i in range(len(file.both)):
        if not bool(file.both[i]):
            say(f"pair {i}: one hand only, handed through")
            continue
        before, after = float(result.volume_before_cm3[i]), float(result.volume_after_cm3[i])
        state = "refined" if bool(result.refined[i]) else "left as it came"
        worse = [
            f"; the {side} hand runs {1e3 * float(b):.1f} mm into itself"
            for side, b in zip(SIDES, result.self_overlap_after_m[i], strict=True)
            if float(b) > 0.004
        ]
        honest = "" if bool(result.resolved[i]) else "; NOT RESOLVED"
        say(f"pair {i}: {before:.3f} -> {after:.3f} cm3, {state}{honest}{''.join(worse)}")
    free = int(result.resolved[file.both].sum())
    say(f"{free} of {int(file.both.sum())} pairs share no volume -> {out}")
    return 0 if free == int(file.both.sum()) else 1
