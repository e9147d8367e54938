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
    """Random photos with a trusted hand: left and right hands in their colours with their trust, segmentation tinted over the photo."""
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
    height, width = image.shape[:2]
    scale = TILE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shown = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    if lesson.maps.segmentation is not None:
        parts = Image.fromarray(lesson.maps.segmentation.numpy()).resize(size, Image.Resampling.NEAREST)
        shown = Image.fromarray(_tinted(np.asarray(shown), np.asarray(parts)))
    tile = Image.new("RGB", (TILE_PX, TILE_PX))
    tile.paste(shown)
    draw = ImageDraw.Draw(tile)
    for hand, colour in enumerate(HAND_RGB):
        if not lesson.maps.keypoint_confidence[hand].any():
            continue
        colour = colour if lesson.trust[hand] > 0 else DOUBTED_RGB
        points = [tuple(xy) for xy in (lesson.maps.keypoints_xy[hand] * scale).tolist()]
        for a, b in OPENPOSE21_BONES:
            draw.line([points[a], points[b]], fill=colour, width=2)
        for tip in (4, 8, 12, 16, 20):
            x, y = points[tip]
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=(0, 255, 0) if tip == 4 else (255, 255, 255))
        draw.text((points[0][0] - 12, points[0][1] + 2), f"{'LR'[hand]} {float(lesson.trust[hand]):.2f}", fill=colour)
    return tile


def _tinted(image: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Each hand's parts in shades of its colour."""
    shade = 0.6 + 0.4 * ((parts - 1) % 16)[..., None] / 15
    colour = np.where((parts > 16)[..., None], np.array(HAND_RGB[1]), np.array(HAND_RGB[0])) * shade
    return np.where((parts > 0)[..., None], 0.5 * image + 0.5 * colour, image).astype(np.uint8)
