"""`twohands video`: hands over time."""

import sys
from pathlib import Path
from typing import Any, Literal

import tyro

from twohands.cli.app import app
from twohands.cli.console import make_folder, say
from twohands.errors import UserError


@app.command
def video(
    source: tyro.conf.Positional[str],
    out: Path,
    live: bool = False,
    overlay: bool = True,
    refine: bool = True,
    focal_px: float | None = None,
    fov_deg: float | None = None,
    fps: float | None = None,
    seconds: float | None = None,
    mano: Path | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    prior: Literal["auto", "encoder", "teacher"] = "auto",
) -> int:
    """Reconstruct both hands of everyone in a video, smooth over time.

    Writes NAME.npz (every number, with time stamps), NAME.glb (an animated scene), NAME.person0_left.bvh and so on (a skeleton a hand) and
    NAME.overlay.mp4 into the folder `out`. Ctrl-C ends the reading; what was read so far is written.

    Args:
        source: A video file, a folder of photos in the order of their names, or a camera: webcam, webcam:1, /dev/video2.
        out: Folder for the results.
        live: Smooth with the past and one frame of the future only, as a camera's pictures are; results are one frame late.
        overlay: Write the film with the hands over it.
        refine: Let stage 2 pull apart hands that pass through one another.
        focal_px: Focal length in pixels of the video, if you know it.
        fov_deg: Field of view over the longer side in degrees, if you know that instead; 60 is assumed without either.
        fps: Frames per second of a folder of photos (30 if not given); of a camera, for the overlay.
        seconds: Stop after so much of the video.
        mano: Folder with MANO_LEFT.pkl and MANO_RIGHT.pkl; the hands are then given as MANO's (not with --live).
        device: Where the networks run.
        prior: Where the 2D prior comes from: the alignment encoder, the light teacher, or (auto) what is better on real photos, the encoder.
    """
    from twohands.video.media import open_source
    from twohands.video.produce import VideoOptions, produce

    if seconds is not None and not seconds > 0:
        raise UserError(f"--seconds {seconds} leaves nothing of the video; give a positive number")
    opened = open_source(source, fps)
    if mano is not None and (live or opened.live):
        raise UserError("--mano and --live do not go together: fitting MANO takes longer than a frame; leave one of them out")
    make_folder(out)

    from twohands import pipeline

    model = pipeline.load(device=device, prior=prior, mano=mano)
    options = VideoOptions(live, refine, overlay, focal_px, fov_deg, seconds)
    with _Bars(opened.count if seconds is None else None) as bars:
        try:
            produced = produce(opened, model, out, options, bars)
        except OSError as error:
            raise UserError(f"cannot write into {out} ({error.strerror or error}); make room or choose another folder") from error
    for trouble in produced.troubles[:20]:
        say(f"twohands: {trouble}; the hands there are filled in where the gap is short", sys.stderr)
    if len(produced.troubles) > 20:
        say(f"twohands: and {len(produced.troubles) - 20} more frames", sys.stderr)
    motion = produced.motion
    assert motion is not None
    hands = [f"person {number}: {_shares(motion, n)}" for n, number in enumerate(motion.person)] or ["no hands"]
    say(f"{opened.name}: {produced.frames} frames, {'; '.join(hands)}; the detector looked {produced.detections} times")
    for path in produced.files:
        say(f"  {path}")
    if produced.interrupted:
        say("twohands: interrupted; what was read until then is on disk", sys.stderr)
        return 130
    return 0


def _shares(motion: Any, n: int) -> str:
    """In how many of the frames each hand of a person is."""
    parts = []
    for hand, side in enumerate(("left", "right")):
        state = motion.hand_state[:, n, hand]
        seen, filled = int((state == 1).sum()), int((state == 2).sum())
        if seen:
            parts.append(f"{side} hand in {seen}" + (f" and filled in {filled}" if filled else ""))
    return ", ".join(parts)


class _Bars:
    """A bar for the hands, then one for the overlay, with frames a second."""

    def __init__(self, total: int | None) -> None:
        self.total, self.bar, self.stage = total, None, ""

    def __call__(self, stage: str) -> None:
        from tqdm import tqdm

        if stage != self.stage:
            self._close()
            self.bar, self.stage = tqdm(total=self.total, desc=stage, unit="frame", file=sys.stderr), stage
        assert self.bar is not None
        self.bar.update()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> "_Bars":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
