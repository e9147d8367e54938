"""`twohands evaluate`: our model's numbers, or anybody's, by the named protocols."""

import hashlib
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from twohands.cli.app import app
from twohands.cli.console import make_folder, say
from twohands.errors import UserError

if TYPE_CHECKING:
    from tqdm import tqdm

    from twohands.evaluation.judge import Report
    from twohands.evaluation.judged import Prediction
    from twohands.evaluation.predict import Predict
    from twohands.evaluation.protocols import Protocol
    from twohands.evaluation.sources import Source
    from twohands.schema import Detection, Sample, TwoHands

Boxes = Literal["truth", "detector"]


@app.command
def evaluate(
    protocol: str | None = None,
    data: Path | None = None,
    predictions: Path | None = None,
    mano: Path | None = None,
    json: Path | None = None,
    out: Path | None = None,
    limit: int | None = None,
    list_protocols: Annotated[bool, tyro.conf.arg(name="list"), tyro.conf.FlagCreatePairsOff] = False,
    boxes: Boxes = "truth",
    prior: Literal["auto", "encoder", "teacher"] = "encoder",
    refine: bool = True,
    allow_missing: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    fits: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    device: Literal["cpu", "cuda"] = "cpu",
) -> int:
    """Judge this model, or anybody's predictions, by a named protocol. Prints the table; with `out` also JSON, LaTeX and pictures.

    Args:
        protocol: Name of the protocol; `--list` prints them all.
        data: Folder of the data set. For the synthetic protocols the folder where the benchmark is kept; it is rendered there if need be.
        predictions: NPZ file (or folder of them) of predictions to judge; docs/EVALUATION.md has the format. FreiHAND's and HO-3D's pred.json
            is read too. Without it this model predicts, into `out`, and goes on where it stopped.
        mano: Folder with MANO_LEFT.pkl and MANO_RIGHT.pkl: true meshes of MANO fits, and this model's hands as MANO's.
        json: File for every number.
        out: Folder for report.json, report.tex, pictures, and this model's predictions.
        limit: Judge at most so many samples, evenly spread; not the protocol's number then.
        list_protocols: Print the protocols' names and rules.
        boxes: Where this model gets its boxes: the true ones, or its own detector.
        prior: Where this model's 2D prior comes from: the alignment encoder, the light teacher, or (auto) what is better, the encoder.
        refine: Let stage 2 of this model pull apart hands that pass through one another.
        allow_missing: Judge although some samples have no prediction.
        fits: Judge the data set's own MANO fits instead: against annotated joints, the floor of a method that learns the fits.
        device: Where the networks run.
    """
    from twohands.evaluation.protocols import PROTOCOLS, protocol_named

    if list_protocols:
        for known in PROTOCOLS.values():
            print(f"{known.name:24s} {known.rule}")
        return 0
    if protocol is None:
        raise UserError("no protocol was named; give --protocol NAME (twohands evaluate --list prints them)")
    chosen = protocol_named(protocol)
    if fits and predictions is not None:
        raise UserError("--fits and --predictions were given together; judge one of them")
    report = _judged(chosen, data, predictions, mano, out, limit, boxes, prior, refine, allow_missing, fits, device)
    if json is not None:
        _write_report(json, report)
    if out is not None:
        _write_folder(out, report)
    from twohands.evaluation.report import as_text

    print(as_text(report))
    return 0


def _judged(
    protocol: "Protocol",
    data: Path | None,
    predictions: Path | None,
    mano: Path | None,
    out: Path | None,
    limit: int | None,
    boxes: Boxes,
    prior: Literal["auto", "encoder", "teacher"],
    refine: bool,
    allow_missing: bool,
    fits: bool,
    device: str,
) -> "Report":
    from twohands.evaluation.judge import Tally
    from twohands.evaluation.judged import JudgesHand
    from twohands.evaluation.match import Coverage, batches, batches_of_fits, batches_of_parts, coverage
    from twohands.evaluation.predict import predict_all
    from twohands.evaluation.predictions import open_predictions, read_pred_json
    from twohands.evaluation.sources import limited
    from twohands.hands.bundled import load_bundled_hand
    from twohands.hands.mano import load_mano

    # What is wrong with the caller's own files is said before hours are spent.
    parts = open_predictions(predictions) if predictions is not None and predictions.suffix != ".json" else None
    synthetic = protocol.data == "synthetic"
    hand = None if mano is None or synthetic else JudgesHand(load_mano(mano, fingertips=protocol.fingertips))
    whole, remarks = _opened(protocol, data, mano, limit)
    source = limited(whole, limit)
    if len(source) < len(whole):
        remarks += (f"judged on {len(source):,} of {len(whole):,} samples (--limit): not a number of {protocol.name}",)
    if predictions is None and not fits:
        if out is None:
            raise UserError("this model's predictions need a place; give --out DIR (or --predictions FILE to judge a file)")
        predict, name = _this_model(boxes, prior, refine, None if synthetic else mano, device)
        with _bar(len(source), "predict") as bar:
            predict_all(source, predict, name, out / "predictions", bar.update)
        parts = open_predictions(out / "predictions")
        given = "true, with the hands' sides: every hand is answered for"
        remarks += (f"this model's boxes: {given if boxes == 'truth' else boxes + '; hands that it did not find are in no mean'}",)
    tally = Tally(protocol)
    judges_hand = JudgesHand(load_bundled_hand()) if synthetic else hand
    with _bar(len(source), "judge") as bar:
        if fits:
            found, predictor = Coverage(0, 0), f"the fits of {protocol.data}"
            pairs = batches_of_fits(source, bar.update)
        elif parts is None:
            assert predictions is not None
            prediction = read_pred_json(predictions, source.ids, opengl=protocol.data == "ho3d")
            found, predictor = coverage(source, prediction.sample_id, allow_missing), predictions.name
            pairs = batches(source, prediction, bar.update)
        else:
            import numpy as np

            found, predictor = coverage(source, np.concatenate([part.sample_id for part in parts]), allow_missing), parts[0].predictor
            pairs = batches_of_parts(source, parts, hand, bar.update)
        for truth, prediction in pairs:
            tally.add(truth, prediction, judges_hand)
    if found.missing:
        remarks += (f"{found.missing:,} of {len(source):,} samples have no prediction: this is no number of the protocol",)
    return tally.report(predictor, remarks)


def _opened(protocol: "Protocol", data: Path | None, mano: Path | None, limit: int | None) -> "tuple[Source, tuple[str, ...]]":
    """The samples, and what is to be said about them."""
    if protocol.data != "synthetic":
        if data is None:
            raise UserError(f"{protocol.name} needs its data set; give --data DIR (docs/DATASETS.md says what goes there)")
        from twohands.evaluation.sources import open_dataset_source

        return open_dataset_source(protocol, data, mano), ()
    from twohands.evaluation.synthetic import BENCHMARKS, known_seal, open_benchmark

    if data is None:
        raise UserError(f"{protocol.name} needs a folder to be kept in; give --data DIR, it is rendered there if need be")
    count = BENCHMARKS[protocol.name].count
    # A few scenes are not worth rendering a thousand; which ones does not matter to a look at them.
    wanted = count if limit is None else min(limit, count)
    with _bar(wanted, "render") as bar:
        source = open_benchmark(protocol.name, data, wanted, bar.update)
    if wanted < count:
        return source, (f"judged on the first {wanted:,} of {count:,} scenes (--limit): not a number of {protocol.name}",)
    return source, source.seal().differences(known_seal(protocol.name))


def _this_model(
    boxes: Boxes, prior: Literal["auto", "encoder", "teacher"], refine: bool, mano: Path | None, device: str
) -> "tuple[Predict, str]":
    """This package's pipeline as a predict function, and a name that says which weights and settings it runs with."""
    from twohands import pipeline

    model = pipeline.load(device=device, prior=prior, mano=mano)
    digest = hashlib.sha256()
    for entry in sorted(resources.files("twohands.weights").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".safetensors"):
            digest.update(entry.read_bytes())
    name = (
        f"twohands {metadata.version('twohands')} (weights {digest.hexdigest()[:8]}, prior {model.prior_source}, boxes {boxes}, "
        f"{'refined' if refine else 'not refined'}, {model.hand_model.name} hand)"
    )

    def predict(sample_id: str, sample: "Sample") -> "Prediction":
        image = sample.image.permute(1, 2, 0).numpy()
        if boxes == "truth":
            result = model.from_detection(image, sample.camera, true_detection(sample), refine=refine, certain=True)
        else:
            result = model.reconstruct(image, intrinsics=sample.camera.matrix().numpy(), refine=refine)
        shape = model.hand_model.data.v_template.shape[1]
        # Of several people the one who has the hands that are asked for; the others are not in the annotation.
        best = max(result.people, key=lambda p: (int((p.hand_present & sample.hand_valid).sum()), float(p.score.max())), default=None)
        return _row(sample_id, best, shape, boxes)

    return predict, name


def _row(sample_id: str, hands: "TwoHands | None", vertices: int, boxes: Boxes) -> "Prediction":
    """A reconstruction as a row of predictions; NaN for a hand that was not found."""
    import numpy as np

    from twohands.evaluation.predict import one_row
    from twohands.evaluation.sources import FIRST_PIXEL, M_TO_MM
    from twohands.evaluation.two_hand_rules import BOX_GROWTH

    joints, meshes = np.full((2, 21, 3), np.nan), np.full((2, vertices, 3), np.nan)
    presence, box = np.zeros(2), np.full((2, 4), np.nan)
    if hands is not None:
        there = hands.hand_present.numpy()
        joints[there] = hands.keypoints_m.double().numpy()[there] * M_TO_MM
        meshes[there] = hands.vertices_m.double().numpy()[there] * M_TO_MM
        presence = hands.score.double().numpy()
        corners = hands.box_xyxy_px.double().numpy()[there] - FIRST_PIXEL
        centre, half = (corners[:, :2] + corners[:, 2:]) / 2, (corners[:, 2:] - corners[:, :2]) / 2 * BOX_GROWTH
        box[there] = np.concatenate([centre - half, centre + half], 1)
    # With the true boxes, which hands there are and where was not predicted.
    own = boxes == "detector"
    return one_row(sample_id, joints, meshes, joints[0, 0] - joints[1, 0], presence if own else None, box if own else None)


def true_detection(sample: "Sample") -> "Detection":
    """What a perfect detector would say; hands of which less than a box is annotated are left out."""
    import torch

    from twohands.joints import MIDDLE_MCP
    from twohands.schema import Detection

    valid = sample.hand_valid & torch.isfinite(sample.box_xyxy_px).all(-1) & (sample.box_xyxy_px[:, 2:] > sample.box_xyxy_px[:, :2]).all(-1)
    along = sample.keypoints_xy[:, MIDDLE_MCP] - sample.keypoints_xy[:, 0]
    # A hand whose direction nobody annotated is taken to point up.
    along = torch.where(torch.isfinite(along).all(-1, keepdim=True), along, torch.tensor([0.0, -1.0]))
    count = int(valid.sum())
    direction = torch.nn.functional.normalize(along, dim=-1)[valid]
    return Detection(sample.box_xyxy_px[valid], torch.ones(count), torch.tensor([0.0, 1.0])[valid], direction, (0,) * count)


def _write_report(path: Path, report: "Report") -> None:
    from twohands.evaluation.report import write_json

    try:
        write_json(path, report)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); make room or choose another place") from error


def _write_folder(out: Path, report: "Report") -> None:
    from twohands.evaluation import pictures
    from twohands.evaluation.report import as_latex, write_whole

    make_folder(out)
    _write_report(out / "report.json", report)
    try:
        write_whole(out / "report.tex", as_latex(report))
    except OSError as error:
        raise UserError(f"cannot write into {out} ({error.strerror}); make room or choose another folder") from error
    if pictures.matplotlib_installed():
        pictures.draw(report, out)
    else:
        say("twohands: no pictures, since matplotlib is not installed; pip install 'twohands[evaluate]' brings it", sys.stderr)


def _bar(total: int, what: str) -> "tqdm":
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="sample", file=sys.stderr, mininterval=1.0)
