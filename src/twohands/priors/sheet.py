"""A contact sheet of a cache: what a teacher said, to be judged by eye."""

import numpy as np
from PIL import Image, ImageDraw

from twohands.joints import OPENPOSE21_BONES
from twohands.palette import HAND_RGB
from twohands.priors.cache import Cache, Photos, ShardedPhotos, name_of
from twohands.priors.teacher import Lesson

TILE_PX = 240
DOUBTED_RGB = (140, 140, 140)


def draw_sheet(cache: Cache, source: Photos | ShardedPhotos, count: int = 100, columns: int = 10, seed: int = 0) -> Image.Image:
    """Random photos with a trusted hand, cut out around it: left and right hands in their colours with their trust, segmentation tinted over."""
    trusted = {name for name, k in cache.index.items() if (cache.arrays["trust"][k] > 0).any()}
    items = [item for item in source.items() if name_of(item) in trusted]
    chosen = sorted(np.random.default_rng(seed).permutation(len(items))[:count].tolist())
    sheet = Image.new("RGB", (columns * TILE_PX, -(-max(1, len(chosen)) // columns) * TILE_PX))
    for n, k in enumerate(chosen):
        question = source.question(items[k])
        row, column = divmod(n, columns)
        sheet.paste(_tile(question.image, cache.lesson(question.name)), (column * TILE_PX, row * TILE_PX))
    return sheet


def _tile(image: np.ndarray, lesson: Lesson) -> Image.Image:
    """The square around the trusted hands, half as large again as they are."""
    points = lesson.maps.keypoints_xy[lesson.trust > 0].flatten(0, 1).numpy()
    low, high = points.min(0), points.max(0)
    side_px = max(1.5 * float((high - low).max()), 16.0)
    corner = (low + high) / 2 - side_px / 2
    box = (corner[0], corner[1], corner[0] + side_px, corner[1] + side_px)
    shown = _cut(Image.fromarray(image), box, Image.Resampling.BILINEAR)
    if lesson.maps.segmentation is not None:
        parts = Image.fromarray(lesson.maps.segmentation.numpy())
        to_map = np.tile([parts.width / image.shape[1], parts.height / image.shape[0]], 2)
        shown = Image.fromarray(_tinted(np.asarray(shown), np.asarray(_cut(parts, tuple(box * to_map), Image.Resampling.NEAREST))))
    draw = ImageDraw.Draw(shown)
    for hand, colour in enumerate(HAND_RGB):
        if not lesson.maps.keypoint_confidence[hand].any():
            continue
        colour = colour if lesson.trust[hand] > 0 else DOUBTED_RGB
        placed = [tuple(xy) for xy in ((lesson.maps.keypoints_xy[hand].numpy() - corner) * TILE_PX / side_px).tolist()]
        # A dark line under the coloured one: orange on skin is hard to see.
        for width, line_colour in ((5, (0, 0, 0)), (3, colour)):
            for a, b in OPENPOSE21_BONES:
                draw.line([placed[a], placed[b]], fill=line_colour, width=width)
        for tip in (4, 8, 12, 16, 20):
            x, y = placed[tip]
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=(0, 255, 0) if tip == 4 else (255, 255, 255))
        draw.text((4, 4 + 12 * hand), f"{'LR'[hand]} {float(lesson.trust[hand]):.2f}", fill=colour, stroke_width=1, stroke_fill=(0, 0, 0))
    return shown


def _cut(image: Image.Image, box: tuple[float, float, float, float], resampling: Image.Resampling) -> Image.Image:
    """A part of a picture at TILE_PX; black outside the picture."""
    coefficients = ((box[2] - box[0]) / TILE_PX, 0, box[0], 0, (box[3] - box[1]) / TILE_PX, box[1])
    return image.transform((TILE_PX, TILE_PX), Image.Transform.AFFINE, coefficients, resampling)


def _tinted(image: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Each hand's parts in shades of its colour."""
    shade = 0.6 + 0.4 * ((parts - 1) % 16)[..., None] / 15
    colour = np.where((parts > 16)[..., None], np.array(HAND_RGB[1]), np.array(HAND_RGB[0])) * shade
    return np.where((parts > 0)[..., None], 0.5 * image + 0.5 * colour, image).astype(np.uint8)
