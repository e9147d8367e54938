"""`twohands serve`, `view` and `report`: results in a browser."""

from typing import Literal

from twohands.cli.app import app


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
    from twohands.cli.photo import say_prior
    from twohands.web.server import serve as serve_page

    model = pipeline.load(device=device, prior=prior, mano=None)
    say_prior(model, prior)

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
