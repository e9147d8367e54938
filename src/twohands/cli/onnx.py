"""`twohands onnx`: the networks for other programs."""

from pathlib import Path

from twohands.cli.app import app
from twohands.cli.console import make_folder


@app.command
def onnx(out: Path) -> None:
    """Write the detector's and stage 1's networks as ONNX, and check that ONNX Runtime answers as PyTorch does.

    Args:
        out: Folder for detector.onnx and regressor.onnx.
    """
    import torch

    from twohands.engines.onnx import export_onnx
    from twohands.engines.tensors import tensor_names
    from twohands.pipeline import load

    make_folder(out)
    model = load(prior="encoder", engine="torch")
    generator = torch.Generator().manual_seed(0)

    def photo(batch: int, height: int, width: int) -> tuple[torch.Tensor, ...]:
        return (torch.rand(batch, 3, height, width, generator=generator),)

    detector = model.detector.network  # type: ignore[attr-defined]
    network = model.regressor.network  # type: ignore[attr-defined]
    crop = network.config.crop_px

    def pairs(count: int) -> tuple[torch.Tensor, ...]:
        present = torch.ones(count, 2, dtype=torch.bool)
        present[1::2, 0] = False
        images = torch.rand(count, 2, 3, crop, crop, generator=generator)
        return images, torch.randn(count, 2, 8, generator=generator), present

    px = {0: "image", 2: "height", 3: "width"}
    written = [
        export_onnx(
            detector, photo(1, 160, 192), [photo(2, 96, 192), photo(1, 384, 288)], out / "detector.onnx", ("photo",), ("heat", "fields"),
            {"photo": px, "heat": px, "fields": {0: "image", 3: "height", 4: "width"}},
        )
    ]  # fmt: skip
    example = pairs(2)
    with torch.no_grad():
        prediction, _ = network(*example)
    names = tuple(tensor_names(prediction))
    inputs = ("crops", "geometry", "present")
    written.append(
        export_onnx(
            network, example, [pairs(1), pairs(5)], out / "regressor.onnx", inputs, names, {name: {0: "pair"} for name in (*inputs, *names)}
        )
    )
    for file in written:
        size = file.path.stat().st_size / 1e6
        told = f"differs from PyTorch by {file.worst:.1g} of a tensor's size at most, over {file.checked + 1} inputs of several sizes"
        print(f"{file.path}: {size:.1f} MB, {', '.join(file.inputs)} -> {', '.join(file.outputs)}; {told}")
