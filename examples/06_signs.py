"""Sign language: a table of joints relative to the wrist, in hand sizes, one row a frame, for a recogniser.

python examples/06_signs.py RESULT.npz [OUT.csv]
"""

import csv
import sys
from pathlib import Path

from twohands.export import read_motion
from twohands.joints import MIDDLE_MCP, OPENPOSE21


def main(result: str | Path, out: str | Path = "out/06_signs.csv") -> int:
    motion = read_motion(Path(result))
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    columns = [f"{side}_{joint}_{axis}" for side in ("left", "right") for joint in OPENPOSE21 for axis in "xyz"]
    with Path(out).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["time_s", *columns])
        for t in range(len(motion.time_s)):
            row: list[str] = []
            for hand in (0, 1):
                there = len(motion.person) > 0 and bool(motion.hand_present[t, 0, hand])
                if not there:
                    row += [""] * 63
                    continue
                points = motion.keypoints_m[t, 0, hand] - motion.keypoints_m[t, 0, hand, 0]
                row += [f"{v:.4f}" for v in (points / points[MIDDLE_MCP].norm()).flatten().tolist()]
            writer.writerow([f"{float(motion.time_s[t]):.4f}", *row])
    return len(motion.time_s)


if __name__ == "__main__":
    main(*sys.argv[1:])
