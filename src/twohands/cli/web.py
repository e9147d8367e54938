"""`twohands serve`, `view` and `report`: results in a browser."""

from pathlib import Path
from typing import Literal

import tyro

from twohands.cli.app import app
from twohands.errors import UserError


@app.command
def serve(
    port: int = 8000,
    host: str = "127.0.0.1",
    open_browser: bool = False,
    device: Literal["cpu", "cuda"] = "cpu",
    prior: Literal["auto", "encoder", "teacher"] = "auto",
) -> int:
    """Open a page where a photo is dropped, or the webcam used, and its hands turn in 3D, with times and downloads.

    Photos stay on this machine, and in memory.

    Args:
        port: Where the page is; 0 takes any free port.
        host: Address to listen on. The page has no password: with another address than this machine's own, everyone who reaches it can use it.
        open_browser: Open the page in the default browser.
        device: Where the networks run.
        prior: Where the 2D prior comes from, as with `twohands photo`.
    """
    from twohands import pipeline
    from twohands.web.server import serve as serve_page

    model = pipeline.load(device=device, prior=prior, mano=None)

    def ready(address: str) -> None:
        print(f"open {address} in a browser; Ctrl-C ends", flush=True)
        if open_browser:
            import webbrowser

            webbrowser.open(address)

    try:
        serve_page(model, host, port, ready)
    except KeyboardInterrupt:
        print("the page is closed")
    return 0


@app.command
def view(
    result: tyro.conf.Positional[Path], film: Path | None = None, mano: Path | None = None, port: int = 8080, host: str = "127.0.0.1"
) -> int:
    """Look at a result in 3D in the browser: both hands in front of the picture, over time, with what touches and what overlaps.

    Args:
        result: The NPZ that `twohands photo` or `twohands video` wrote.
        film: The video that the result was made from, to see its pictures behind the hands.
        mano: Folder with MANO's files, where the hands are MANO's.
        port: Where the page is; 0 takes any free port.
        host: Address to listen on. The page has no password: with another address than this machine's own, everyone who reaches it can see it.
    """
    from twohands.web.stored import open_result
    from twohands.web.viewer import open_viewer, run_viewer

    viewer = open_viewer(open_result(result, film, mano), host, port)
    print(f"open http://{host}:{viewer.server.get_port()}/ in a browser; Ctrl-C ends", flush=True)
    run_viewer(viewer)
    return 0


@app.command
def report(run: tyro.conf.Positional[Path], out: Path | None = None) -> int:
    """Write a report of a run as one HTML file that needs nothing else: the photos of most concern first, with pictures.

    Args:
        run: The folder that `twohands photo --out` wrote into.
        out: The file to write; report.html in that folder by default.
    """
    from twohands.web.report import write_report

    path = out or run / "report.html"
    try:
        count = write_report(run, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); make room or choose another place with --out") from error
    print(f"{path}: {count} photos, those of most concern first")
    return 0
