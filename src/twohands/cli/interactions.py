"""`twohands interactions`: plausible pairs of hands from a seed."""

from pathlib import Path

from twohands.cli.app import app
from twohands.cli.console import progress_bar
from twohands.errors import UserError


@app.command
def interactions(out: Path, count: int = 1000, seed: int = 0, workers: int = 1, sheet: Path | None = None) -> None:
    """Make pairs of interacting hands (touching or nearly, never passing through one another) and say how varied they are.

    Args:
        out: NPZ for the pairs: pose, shape, translation_m and template of each.
        count: How many pairs; about 45 s a thousand on one core.
        seed: The same seed gives the same pairs.
        workers: Processes that make them.
        sheet: PNG for a contact sheet of the first 96.
    """
    if out.suffix.lower() != ".npz":
        raise UserError(f"{out} does not end in .npz; give the bank a name that does")

    from twohands.hands.bundled import load_bundled_hand
    from twohands.synth.bank import build_bank, read_labelled_bank, variety
    from twohands.synth.sheet import contact_sheet
    from twohands.view.overlay import write_picture

    out.parent.mkdir(parents=True, exist_ok=True)
    with progress_bar(count, "pairs", "pair") as bar:
        build_bank(out, count, seed, workers, progress=bar.update)
    pairs, hand = read_labelled_bank(out), load_bundled_hand()
    for line in variety(hand, pairs).lines():
        print(line)
    if sheet is not None:
        write_picture(sheet, contact_sheet(hand, pairs.parameters[:96], columns=12))
    print(f"{count} pairs in {out}")
