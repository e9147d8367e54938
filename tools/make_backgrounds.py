"""Pictures without hands to put behind the synthetic scenes, from packages with free licences. Nothing of them enters the project.

    npm pack @pmndrs/assets && tar xzf pmndrs-assets-*.tgz                        # CC0 environment maps
    apt-get download gnome-backgrounds mate-backgrounds plasma-workspace-wallpapers ... && dpkg-deb -x PACKAGE.deb wallpapers
    python tools/make_backgrounds.py OUT --environments package/hdri --wallpapers wallpapers

Environment maps are seen through a camera that looks about at eye level; they need `pip install OpenEXR`. What light each view's camera stands in
goes to OUT/lights.npz, and the engine lights hands by it. Wallpapers are made smaller."""

import argparse
import base64
import re
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import median_filter

from twohands.synth.light import LIGHTS, Light, light_of_environment

VIEWS = 14
SIDE_PX = 384
WALLPAPER_PX = 900
LEAST_WIDTH_PX = 600
"""Smaller pictures in a wallpaper's package are previews and icons."""
SKIP = 4
"""Every so many pixels of a map say enough of its light."""
NO_PICTURES = ("/plymouth/", "preview", "screenshot", "/grub")


def read_environment(script: Path) -> np.ndarray:
    """(height, width, 3) linear light of an equirectangular map, kept as base64 in a JavaScript file."""
    import OpenEXR

    found = re.search(r"base64,([A-Za-z0-9+/=]+)", script.read_text())
    if found is None:
        raise ValueError(f"{script} holds no base64 picture; give the folder hdri of the package")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.exr"
        path.write_bytes(base64.b64decode(found.group(1)))
        channels = OpenEXR.File(str(path)).channels()
    joined = channels.get("RGB") or channels.get("RGBA")
    pixels = joined.pixels[..., :3] if joined is not None else np.stack([channels[c].pixels for c in "RGB"], -1)
    return without_ringing(np.asarray(pixels, np.float32))


def without_ringing(environment: np.ndarray) -> np.ndarray:
    """Maps that were made smaller by a filter with negative lobes hold light below zero around every lamp (down to -3,894), which a picture shows
    as a black rim: the median of what lies around stands there instead."""
    around = np.maximum(median_filter(environment, size=(5, 5, 1)), 0)
    return np.where(environment < 0, around, environment)


def view_of(environment: np.ndarray, rng: np.random.Generator) -> tuple[Image.Image, Light]:
    """A perspective picture, exposed for its median, and the light in its camera's frame."""
    height, width = environment.shape[:2]
    yaw, pitch = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.2)
    focal = SIDE_PX / 2 / np.tan(np.radians(rng.uniform(60, 100)) / 2)
    v, u = np.mgrid[:SIDE_PX, :SIDE_PX]
    d = np.stack([(u - SIDE_PX / 2) / focal, -(v - SIDE_PX / 2) / focal, np.ones_like(u)], -1)
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    y, z = d[..., 1] * np.cos(pitch) + d[..., 2] * np.sin(pitch), d[..., 2] * np.cos(pitch) - d[..., 1] * np.sin(pitch)
    x = ((np.arctan2(d[..., 0], z) + yaw) / (2 * np.pi) % 1) * width
    y = (0.5 - np.arcsin(np.clip(y, -1, 1)) / np.pi) * height
    left, top = np.floor(x).astype(int), np.clip(np.floor(y).astype(int), 0, height - 2)
    a, b = (x - left)[..., None], np.clip(y - top, 0, 1)[..., None]
    row = lambda at: environment[at, left % width] * (1 - a) + environment[at, (left + 1) % width] * a  # noqa: E731 used twice, below
    picture = row(top) * (1 - b) + row(top + 1) * b
    gain = 0.25 / np.median(picture.mean(-1))
    encoded = np.clip(picture * gain / (1 + 0.6 * picture * gain), 0, 1) ** (1 / 2.2)
    rise = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    R_camera_map = np.diag([1.0, -1, 1]) @ (turn @ rise).T  # a camera's y points down
    small = environment[::SKIP, ::SKIP] if min(environment.shape[:2]) > 64 * SKIP else environment
    return Image.fromarray((encoded * 255).astype(np.uint8)), light_of_environment((small * gain).astype(np.float32), R_camera_map)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--wallpapers", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    count, lights = 0, dict[str, Light]()
    for script in sorted(args.environments.glob("*.exr.js")) if args.environments else []:
        environment = read_environment(script)
        for k in range(VIEWS):
            picture, light = view_of(environment, rng)
            name = f"{script.name.split('.')[0]}_{k:02d}.jpg"
            picture.save(args.out / name, quality=92)
            lights[name] = light
            count += 1
    if lights:
        np.savez(
            args.out / LIGHTS, name=np.array(list(lights)), sky=np.stack([x.sky for x in lights.values()]),
            to_light=np.stack([x.to_light[0] for x in lights.values()]), power=np.stack([x.power[0] for x in lights.values()]),
        )  # fmt: skip
    pictures = (
        [p for p in sorted(args.wallpapers.rglob("*")) if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"}] if args.wallpapers else []
    )
    for path in pictures:
        if any(word in str(path).lower() for word in NO_PICTURES):
            continue
        with Image.open(path) as image:
            if image.width < LEAST_WIDTH_PX:
                continue
            small = image.convert("RGB")
        small.thumbnail((WALLPAPER_PX, WALLPAPER_PX))
        small.save(args.out / f"wallpaper_{count:04d}.jpg", quality=92)
        count += 1
    print(f"{count} pictures in {args.out}")


if __name__ == "__main__":
    main()
