"""The command line. Each command is a function whose docstring is its help; what is heavy is imported inside it."""

import gc
import os
import sys
from importlib import metadata

# Imported for what they register.
from twohands.cli import (  # noqa: F401
    batch,
    bench,
    data,
    evaluate,
    evaluate_refine,
    export,
    interactions,
    onnx,
    paper,
    photo,
    refine,
    synth,
    teach,
    teachers,
    train,
    video,
    web,
)
from twohands.cli.app import app
from twohands.errors import UserError

DESCRIPTION = "Two interacting hands in 3D from one photo."


def main(arguments: list[str] | None = None) -> int:
    """Runs a command line, this program's own if none is given; returns the exit code: 0 done, 2 the user can mend it, 141 as a shell
    says of a program whose output nobody reads any more."""
    if arguments is None:
        code = main(sys.argv[1:])
        gc.freeze()  # nothing is looked through once more on the way out: half a second of every command that loads PyTorch
        return code
    if arguments[:2] == ["evaluate", "refine"]:
        arguments = ["evaluate-refine", *arguments[2:]]
    if arguments == ["--version"]:
        print(f"twohands {metadata.version('twohands')}")
        return 0
    try:
        code = app.cli(prog="twohands", description=DESCRIPTION, args=arguments)
        sys.stdout.flush()
    except UserError as error:
        print(f"twohands: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("twohands: interrupted; what was finished is on disk", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has had enough; what is still to be written on the way out has nobody to read it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code or 0
