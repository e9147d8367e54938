"""`twohands teachers`: the light teacher's file."""

from pathlib import Path

from twohands.cli.app import teachers


@teachers.command
def install(folder: Path | None = None, wheel: Path | None = None, trunks: bool = False) -> None:
    """Fetch the light keypoint teacher (MediaPipe's hand landmark network, Apache-2.0) out of its Python wheel.

    Args:
        folder: Where to put it, if not in the user's data folder. Photos look for it in the data folder, or in teachers/ of $TWOHANDS_HOME.
        wheel: A mediapipe wheel that is already here; without it pip fetches one.
        trunks: Fetch the palm detection network too, whose trunk the detector begins its training with.
    """
    from twohands.priors.install import LANDMARK, PALM, install_networks

    for path in install_networks(folder, wheel, (LANDMARK, PALM) if trunks else (LANDMARK,)):
        print(f"{path.name} is at {path}")
