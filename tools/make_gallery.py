"""Makes docs/gallery: what the program draws, from synthetic photos that anyone can render again from their seeds.

    python tools/make_gallery.py [--out docs/gallery]

The photos are rendered, then reconstructed like any other; nothing is touched up, and the sheet shows every seed."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

import twohands
from twohands.pipeline import Pipeline
from twohands.schema import PhotoResult
from twohands.synth.photo import take_photo
from twohands.synth.scene import SceneKnobs
from twohands.view.overlay import draw_turned
from twohands.view.sheet import Cell, contact_sheet
from twohands.view.styles import captioned, draw_style, touch_scene
from twohands.view.turntable import four_views, write_turntable

LARGEST_BYTES = 1_500_000
"""Of the whole gallery."""
SIZE_PX = 480
SEEDS = tuple(range(101, 113))
"""A dozen photos of two hands, one seed after the other."""
KNOBS = SceneKnobs(size_px=SIZE_PX, two_hands=1.0, interacting=0.7, pairs="fresh", held=0.0, occluder=0.0, fill_close=(0.55, 0.75))


def write(path: Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Photos as JPEG, drawings as PNG of 256 colours: each small."""
    if path.suffix == ".jpg":
        Image.fromarray(picture).save(path, quality=82, optimize=True)
    else:
        Image.fromarray(picture).quantize(256).save(path, optimize=True)


def heat_picture(result: PhotoResult, model: Pipeline, size_px: int = 300) -> UInt8[np.ndarray, "h w 3"]:
    """Contact and penetration of one person's hands before and after refinement, from two sides."""
    hand, person = model.hand_model, result.people[0]
    rows = []
    for name, parameters in (("before refinement", person.parameters_before or person.parameters), ("after", person.parameters)):
        vertices = hand.pose_hands(parameters).mesh().vertices_m
        scene = touch_scene((replace(person, vertices_m=vertices),), hand)
        views = [draw_turned(scene, size_px, yaw, 15.0) for yaw in (0.0, 180.0)]
        rows.append(captioned(np.concatenate(views, 1), name))
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "gallery")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    model = twohands.load(prior="encoder")
    results = {}
    for seed in SEEDS:
        image = take_photo(KNOBS, seed).image.permute(1, 2, 0).contiguous().numpy()
        results[seed] = model.reconstruct(image)
    cells = [Cell.of(draw_style(result, model.hand_model), f"seed {seed}", 200) for seed, result in results.items()]
    write(out / "sheet.jpg", contact_sheet(cells, 6, 200))
    both = [result for result in results.values() if result.people and bool(result.people[0].hand_present.all())]
    if not both:
        raise SystemExit("no photo of the gallery has both hands found; the weights are not fit to be shown")
    # The sheet shows all, good and bad; the rest the pair that the program is surest of, one that was refined if there is one.
    shown = max(both, key=lambda result: (result.people[0].refined, float(result.people[0].score.min())))
    styles = [captioned(draw_style(shown, model.hand_model, style), style) for style in ("mesh", "wire", "skeleton", "depth")]
    write(out / "styles.jpg", np.concatenate([np.concatenate(styles[:2], 1), np.concatenate(styles[2:], 1)]))
    write(out / "views.png", four_views(shown, model.hand_model, 300))
    write(out / "heat.png", heat_picture(shown, model))
    write_turntable(out / "turntable.gif", shown, model.hand_model, 220, 24)
    total = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {len(list(out.iterdir()))} files, {total / 1e6:.2f} MB")
    if total > LARGEST_BYTES:
        raise SystemExit(f"the gallery has {total} bytes, more than {LARGEST_BYTES}; shrink its pictures")


if __name__ == "__main__":
    main()
