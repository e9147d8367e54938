"""Your own camera: a calibrated matrix in, hands in its metric frame out.

python examples/07_intrinsics.py PHOTO FX FY CX CY
"""

import sys
from pathlib import Path

import numpy as np

import twohands


def main(photo: str | Path, fx: float, fy: float, cx: float, cy: float) -> twohands.PhotoResult:
    # Of an undistorted picture. Pixel centres are at half-integers: add 0.5 to cx and cy that count the first pixel's centre as 0 (OpenCV's do).
    intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    result = twohands.load().reconstruct(photo, intrinsics=intrinsics)
    for person in result.people:
        for hand, side in enumerate(("left", "right")):
            if person.hand_present[hand]:
                x, y, z = person.keypoints_m[hand, 0].tolist()
                print(f"{side} wrist {x:.3f} {y:.3f} {z:.3f} m from the camera ({person.camera_source})")
    return result


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:6]))
