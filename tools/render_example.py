"""Renders the example photo that ships with the package: two hands that hold each other, from a scene of the synthetic engine in a calmer light.

    python tools/render_example.py [--seed N] [--out FOLDER]

Writes two_hands.jpg (with its focal length in EXIF, as a camera would) and two_hands.json, the truth in the format of predictions.json. The
engine's own photos are made to teach: harsh, noisy, cluttered. This one is made to be looked at: one large lamp and the sky, each sampled by
many shadow maps, so that shadows are soft and creases dark. A photo is a function of the seed and of the engine; when the engine changes,
choose a seed anew (`--sheet` draws the first 48).
"""

import argparse
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter
from PIL.TiffImagePlugin import IFDRational

from twohands.render import interpolate, rasterize, smooth_normals
from twohands.synth.posing import annotated_points
from twohands.synth.scene import Scene, SceneKnobs, build_scene
from twohands.synth.things import Piece

EXAMPLE = Path(__file__).parents[1] / "src" / "twohands" / "example"
SEED = 26
KNOBS = SceneKnobs(
    framing="close", bodies=0.0, pairs="fresh",
    two_hands=1.0, interacting=1.0, fov_deg=(35.0, 50.0), upright=1.0, forearm=1.0, sleeve=1.0, held=0.0, occluder=0.0, glove=0.0
)  # fmt: skip
WIDTH_PX, HEIGHT_PX = 960, 720
SENSOR_MM = 36.0
HANDS_FILL = 0.62
"""Share of the picture's height that the hands' keypoints take up."""
SUPERSAMPLING = 2
SHADOW_PX = 320
LAMP = np.array([-0.55, -0.75, -0.5])
"""Direction to the lamp in the camera frame: above, left, behind the camera."""
LAMP_SIZE = 0.28
LAMP_RGB, SKY_RGB, GROUND_RGB = np.array([1.0, 0.93, 0.84]) * 1.55, np.array([0.80, 0.88, 1.0]) * 0.62, np.array([0.55, 0.45, 0.38]) * 0.35
WRAP = np.array([0.28, 0.12, 0.08])
"""Light that bleeds around the terminator, red most of all: a cheap stand-in for what skin does beneath its surface."""
EXPOSURE = 1.25


@dataclass(frozen=True)
class Shot:
    """A scene, seen by a camera that looks at the middle of the hands."""

    vertices_m: Float[np.ndarray, "vert 3"]
    faces: np.ndarray
    colour: Float[np.ndarray, "vert 3"]
    specular: Float[np.ndarray, "vert 1"]
    joints_and_tips_m: Float[np.ndarray, "hand 21 3"]
    focal_px: float

    @staticmethod
    def of(scene: Scene, width: int, height: int) -> "Shot":
        points = scene.mesh.keypoints_m.numpy()
        every = points.reshape(-1, 3)
        z = every.mean(0) / np.linalg.norm(every.mean(0))
        x = np.cross([0.0, 1.0, 0.0], z)
        x /= np.linalg.norm(x)
        R_shot_camera = np.stack([x, np.cross(z, x), z])
        seen = every @ R_shot_camera.T
        xy = seen[:, :2] / seen[:, 2:]
        focal = HANDS_FILL * height / max(np.ptp(xy[:, 1]), np.ptp(xy[:, 0]) * height / width)
        starts = np.cumsum([0, *[len(p.vertices_m) for p in scene.pieces]])
        return Shot(
            np.concatenate([p.vertices_m for p in scene.pieces]) @ R_shot_camera.T,
            np.concatenate([outward(p) + s for p, s in zip(scene.pieces, starts[:-1], strict=True)]),
            np.concatenate([p.colour for p in scene.pieces]),
            np.concatenate([np.full((len(p.vertices_m), 1), 0.25 if p.specular > 0.02 else 0.02) for p in scene.pieces]),
            points @ R_shot_camera.T,
            float(focal),
        )


def outward(piece: Piece) -> np.ndarray:
    """Faces wound so that normals look out; the engine does not care how its tubes are wound, but normals across a seam must agree."""
    a, b, c = (piece.vertices_m[piece.faces[:, k]] - piece.vertices_m.mean(0) for k in range(3))
    return piece.faces if (a * np.cross(b, c)).sum() > 0 else piece.faces[:, ::-1]


def directions(lamps: int, skies: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions to lights (n, 3) and their radiance (n, 3): a disc of lamps, and a sky all around, brighter above."""
    golden = math.pi * (3 - math.sqrt(5))
    k = np.arange(lamps)
    radius, angle = LAMP_SIZE * np.sqrt((k + 0.5) / lamps), k * golden
    z = LAMP / np.linalg.norm(LAMP)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    lamp = z + radius[:, None] * (np.cos(angle)[:, None] * x + np.sin(angle)[:, None] * np.cross(z, x))
    k = np.arange(skies)
    height = 1 - 2 * (k + 0.5) / skies
    ring = np.sqrt(1 - height**2)
    sky = np.stack([ring * np.cos(k * golden), -height, ring * np.sin(k * golden)], 1)
    share = (height[:, None] + 1) / 2
    radiance = (SKY_RGB * share + GROUND_RGB * (1 - share)) * 2 / skies
    every = np.concatenate([lamp, sky])
    return every / np.linalg.norm(every, axis=1, keepdims=True), np.concatenate([np.tile(LAMP_RGB / lamps, (lamps, 1)), radiance])


def shaded(shot: Shot, width: int, height: int, lamps: int, skies: int) -> Float[np.ndarray, "height width 4"]:
    """Linear colour, premultiplied, and coverage."""
    focal, principal = np.full(2, shot.focal_px * width / WIDTH_PX, np.float32), np.array([width / 2, height / 2], np.float32)
    vertices = shot.vertices_m.astype(np.float32)
    raster = rasterize(vertices, shot.faces, focal, principal, height, width)
    seen = raster.face >= 0
    attributes = np.concatenate([welded_normals(vertices, shot.faces), shot.colour, shot.specular], 1).astype(np.float32)
    values = interpolate(raster, shot.faces, attributes)[seen]
    normal, colour, specular = values[:, :3], values[:, 3:6], values[:, 6:]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    v, u = np.nonzero(seen)
    rays = np.stack([(u + 0.5 - principal[0]) / focal[0], (v + 0.5 - principal[1]) / focal[1], np.ones(len(u))], 1)
    points = rays * raster.depth_m[seen][:, None]
    view = -rays / np.linalg.norm(rays, axis=1, keepdims=True)
    # The inside of a sleeve is lit as the side that is seen. Faces decide: near an outline smooth normals look away where the face does not.
    a, b, c = (vertices[shot.faces[raster.face[seen], k]] for k in range(3))
    normal *= np.where((np.cross(b - a, c - a) * view).sum(1, keepdims=True) < 0, -1, 1)
    middle = shot.joints_and_tips_m.reshape(-1, 3).mean(0)
    radius = float(np.linalg.norm(shot.joints_and_tips_m.reshape(-1, 3) - middle, axis=1).max()) * 1.25
    total = np.zeros((len(points), 3), np.float32)
    pixels = [np.ascontiguousarray(x, np.float32) for x in (points + 0.0008 * normal, normal, view, colour, specular[:, 0])]
    for to_light, radiance in zip(*directions(lamps, skies), strict=True):
        R, shift, shadow_focal, shadow = shadow_map(shot, to_light, middle, radius)
        add_light(*pixels, np.float32(to_light), np.float32(radiance), np.float32(WRAP), R, shift, shadow_focal, shadow, total)
    out = np.zeros((height, width, 4), np.float32)
    out[seen] = np.concatenate([total, np.ones((len(total), 1))], 1)
    return out


def welded_normals(vertices_m: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals without seams where pieces meet: vertices in one place count as one, and the lids between hand and forearm are left out."""
    _, first, index = np.unique((vertices_m * 1e4).round().astype(np.int64), axis=0, return_index=True, return_inverse=True)
    index = index.reshape(-1)
    joined = index[faces].astype(np.int32)
    rim = np.bincount(index) > 1
    # A lid is a fan: two corners of each of its triangles lie on the rim, and its third is a centre that only lids have.
    beside = joined[(rim[joined].sum(1) == 2)]
    thirds, fans = np.unique(beside[~rim[beside]], return_counts=True)
    lids = np.isin(joined, thirds[fans > 8]).any(1)
    return smooth_normals(vertices_m[first], joined[~lids])[index]


def shadow_map(
    shot: Shot, to_light: np.ndarray, middle: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.float32, np.ndarray]:
    """Pose and focal length of a far light's camera, and the depth that it sees."""
    far = 40 * radius
    z = -to_light
    x = np.cross(z, [0.31, 0.52, 0.79])
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    shift = np.array([0, 0, far]) - R @ middle
    focal = np.float32(SHADOW_PX / 2 * far / radius)
    principal = np.full(2, SHADOW_PX / 2, np.float32)
    seen = (shot.vertices_m @ R.T + shift).astype(np.float32)
    depth_m = rasterize(seen, shot.faces, np.full(2, focal), principal, SHADOW_PX, SHADOW_PX).depth_m
    return np.float32(R), np.float32(shift), focal, depth_m


@numba.njit(fastmath=True)
def add_light(points, normals, views, colours, specular, to_light, radiance, wrap, R, shift, focal, shadow, total):  # type: ignore[no-untyped-def]
    """Adds one light: wrapped diffuse and Blinn-Phong, times how much of the light's shadow map (bilinear) leaves the point lit."""
    side = shadow.shape[0]
    for i in range(points.shape[0]):
        x, y, z = points[i]
        lx = R[0, 0] * x + R[0, 1] * y + R[0, 2] * z + shift[0]
        ly = R[1, 0] * x + R[1, 1] * y + R[1, 2] * z + shift[1]
        lz = R[2, 0] * x + R[2, 1] * y + R[2, 2] * z + shift[2]
        u, v = focal * lx / lz + side / 2 - 0.5, focal * ly / lz + side / 2 - 0.5
        iu, iv = int(np.floor(u)), int(np.floor(v))
        lit = 1.0
        if 0 <= iu < side - 1 and 0 <= iv < side - 1:
            lit = 0.0
            for dy in range(2):
                for dx in range(2):
                    if lz < shadow[iv + dy, iu + dx] + 0.0025:
                        lit += abs(1 - dx - (u - iu)) * abs(1 - dy - (v - iv))
        if lit == 0:
            continue
        cosine = normals[i, 0] * to_light[0] + normals[i, 1] * to_light[1] + normals[i, 2] * to_light[2]
        gloss = 0.0
        if cosine > 0:
            hx, hy, hz = views[i, 0] + to_light[0], views[i, 1] + to_light[1], views[i, 2] + to_light[2]
            mirror = (normals[i, 0] * hx + normals[i, 1] * hy + normals[i, 2] * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
            if mirror > 0:
                gloss = specular[i] * 0.35 * (mirror**12 + mirror**45) * cosine
        for k in range(3):
            diffuse = max(0.0, (cosine + wrap[k]) / (1 + wrap[k]))
            total[i, k] += lit * radiance[k] * (colours[i, k] * diffuse + gloss)


def backdrop(width: int, height: int, rng: np.random.Generator) -> Float[np.ndarray, "height width 3"]:
    """A room far out of focus: a wall, a table's edge, a few soft lights. Display values 0 to 1."""
    y, x = np.mgrid[0:height, 0:width] / height
    wall = np.array([0.36, 0.42, 0.47]) * (1.1 - 0.35 * np.hypot(x - 0.45, y - 0.3))[..., None]
    table = np.array([0.42, 0.33, 0.27]) * (1.05 - 0.2 * x)[..., None]
    picture = np.where((y > 0.78 + 0.02 * x)[..., None], table, wall)
    for _ in range(9):
        cx, cy, r = rng.uniform(0, width / height), rng.uniform(0, 0.7), rng.uniform(0.04, 0.12)
        spot = 1 / (1 + np.exp((np.hypot(x - cx, y - cy) - r) / 0.006))
        picture = picture + spot[..., None] * rng.uniform(0.03, 0.12) * np.array([1.0, 0.85, 0.65])
    image = Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(height / 45))
    return np.asarray(image) / 255


def photograph(shot: Shot, width: int, height: int, lamps: int = 20, skies: int = 72, grain: float = 0.008) -> Image.Image:
    """The developed photo."""
    rng = np.random.default_rng(0)
    big = shaded(shot, width * SUPERSAMPLING, height * SUPERSAMPLING, lamps, skies)
    # A filmic curve (Narkowicz's fit of ACES) keeps highlights on skin from burning out; it is applied before averaging, so that edges stay smooth.
    light = big[..., :3] * EXPOSURE * 0.6
    curve = (light * (2.51 * light + 0.03)) / (light * (2.43 * light + 0.59) + 0.14)
    big[..., :3] = np.clip(curve, 0, 1) ** (1 / 2.0) * big[..., 3:]
    small = big.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, 4).mean((1, 3))
    picture = small[..., :3] + backdrop(width, height, rng) * (1 - small[..., 3:])
    picture = picture + grain * rng.normal(size=(height, width, 1))
    return Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5 * width / WIDTH_PX))


def write(shot: Shot, out: Path, seed: int) -> None:
    image = photograph(shot, WIDTH_PX, HEIGHT_PX)
    exif = Image.Exif()
    tags = exif.get_ifd(0x8769)
    # FocalLength, and pixels per inch on a sensor as wide as 35 mm film.
    tags[0x920A] = IFDRational(round(shot.focal_px * SENSOR_MM / WIDTH_PX * 1000), 1000)
    tags[0xA20E], tags[0xA20F], tags[0xA210] = (IFDRational(round(WIDTH_PX * 254000 / SENSOR_MM), 10000),) * 2 + (2,)
    tags[0xA002], tags[0xA003] = WIDTH_PX, HEIGHT_PX
    exif[0x010E] = "Rendered by twohands; no photograph. CC0 1.0."
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, exif=exif, optimize=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "two_hands.jpg").write_bytes(buffer.getvalue())
    principal = np.array([WIDTH_PX / 2, HEIGHT_PX / 2])
    hands = [
        {
            "side": side,
            "score": 1.0,
            "person": 0,
            "kp2d_px": (shot.focal_px * k[:, :2] / k[:, 2:] + principal).round(2).tolist(),
            "kp3d_mm": (k * 1000).round(2).tolist(),
        }
        for side, k in zip(("left", "right"), annotated_points(shot.joints_and_tips_m).astype(np.float64), strict=True)
    ]
    K = [[round(shot.focal_px, 3), 0, principal[0]], [0, round(shot.focal_px, 3), principal[1]], [0, 0, 1]]
    truth = {"hands": hands, "penetration_cm3": 0.0, "camera": {"K": K, "source": "truth"}, "seed": seed}
    (out / "two_hands.json").write_text(json.dumps({"two_hands": truth}) + "\n")
    print(f"{out / 'two_hands.jpg'}: {len(buffer.getvalue()) / 1000:.0f} kB, focal length {shot.focal_px:.1f} px")


def sheet(first: int, path: Path) -> None:
    """Small quick renders of 48 seeds."""
    tiles = []
    for seed in range(first, first + 48):
        shot = Shot.of(build_scene(KNOBS, seed), WIDTH_PX, HEIGHT_PX)
        tiles.append(np.asarray(photograph(shot, WIDTH_PX // 4, HEIGHT_PX // 4, lamps=4, skies=16, grain=0)))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.concatenate(tiles[k : k + 8], 1) for k in range(0, 48, 8)])).save(path)
    print(f"{path}: seeds {first} to {first + 47}, eight in a row")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=EXAMPLE)
    parser.add_argument("--sheet", type=Path, help="draw a contact sheet of 48 seeds from --seed on to this file, and nothing else")
    arguments = parser.parse_args()
    if arguments.sheet:
        sheet(arguments.seed, arguments.sheet)
    else:
        write(Shot.of(build_scene(KNOBS, arguments.seed), WIDTH_PX, HEIGHT_PX), arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
