"""The named protocols: which samples, which joints, which root, which scale, which average, and whose rule that is.

Numbers compare only under one name. Every number is printed with its protocol's name and with all of the above; docs/EVALUATION.md says which
published table uses which.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from twohands.errors import UserError
from twohands.evaluation import plausibility, single_hand_rules, synthetic_rules, two_hand_rules
from twohands.evaluation.averaging import Averaging, Split
from twohands.evaluation.judged import JudgesHand, Prediction, Truth
from twohands.evaluation.synthetic_rules import HIDDEN_TIERS
from twohands.evaluation.two_hand_rules import Measured, Selection
from twohands.joints import MIDDLE_MCP

Measure = Callable[[Truth, Prediction, JudgesHand | None], Measured]
DataName = Literal["interhand26m", "reinterhand", "hic", "freihand", "ho3d", "synthetic"]
ALL: tuple[Split, ...] = ("all",)
ALL_SH_IH: tuple[Split, ...] = ("all", "SH", "IH")
WRIST, MCP, PROCRUSTES = "wrist", "middle MCP", "Procrustes"


@dataclass(frozen=True)
class Metric:
    """One column of a table."""

    name: str
    """Key of the measured values."""
    averaging: Averaging
    splits: tuple[Split, ...] = ALL
    unit: str = "mm"
    root: str | None = None
    """Where it differs from the protocol's."""
    scale: str | None = None
    subset: str | None = None
    """Samples that count, where they are not all of the protocol's."""


@dataclass(frozen=True)
class Protocol:
    """A published (or proposed) way to judge."""

    name: str
    data: DataName
    split: str
    subset: str
    """Which samples, in words."""
    id_list: Literal["H", "M", "H+M"]
    """InterHand2.6M: human-annotated (H), machine-annotated (M) or all test annotations; "H+M" (all there is) for other data."""
    joints: str
    """What is taken for the true joints."""
    fingertips: str
    """Row of `hands.mano.FINGERTIP_TABLES`."""
    root: str
    scale: str
    source: str
    """Whose rule."""
    metrics: tuple[Metric, ...]
    select: Callable[[Truth], Selection]
    measure: Measure
    needs_mano: bool = False
    """Without MANO there is no truth; otherwise only the numbers of meshes are missing."""
    needs_brightness: bool = False
    groups: tuple[str, str] = ("SH", "IH")
    """What the two groups of samples are called."""

    @property
    def rule(self) -> str:
        """One line for a list."""
        return f"{self.subset}; joints {self.joints}; root {self.root}; scale {self.scale}; {self.source}"


def _mesh_set(averaging: Averaging, splits: tuple[Split, ...] = ALL) -> tuple[Metric, ...]:
    """Vertex errors and alignment by similarity, the way most protocols average them."""
    return (
        Metric("MPVPE", averaging, splits),
        Metric("MPVPE-XY", averaging),
        Metric("MPVPE-Z", averaging),
        Metric("PA-MPJPE", "entries", splits, root=PROCRUSTES, scale="similarity, det +1, each hand alone"),
        Metric("PA-MPVPE", "entries", splits, root=PROCRUSTES, scale="similarity, det +1, each hand alone"),
    )


_TWO_WRISTS = "both wrists labelled"
_INTERWILD = Protocol(
    name="ih26m/interwild",
    data="interhand26m",
    split="test",
    subset="InterHand2.6M v1.0 5 fps test, human-annotated (H), SH + IH",
    id_list="H",
    joints="annotated; predicted ones regressed from the mesh",
    fingertips="interwild",
    root=WRIST,
    scale="none",
    source="Moon, CVPR 2023 (InterWild), InterHand26M.py",
    metrics=(
        Metric("MPJPE", "cells", ALL_SH_IH),
        Metric("MPJPE-XY", "cells"),
        Metric("MPJPE-Z", "cells"),
        *_mesh_set("entries", ALL_SH_IH),
        Metric("MRRPE", "entries", root="left wrist - right wrist", subset=_TWO_WRISTS),
        Metric("RRVE", "entries", root="right wrist", subset="IH with both fits"),
        Metric("box IoU", "entries", unit="%", root="-", subset="hands with a box"),
    ),
    select=two_hand_rules.select_interwild,
    measure=lambda truth, prediction, _: two_hand_rules.measure_interwild(truth, prediction, two_hand_rules.WRIST),
)
_INTERNET = Protocol(
    name="ih26m/internet",
    data="interhand26m",
    split="test",
    subset="InterHand2.6M v1.0 5 fps test, H + M, SH + IH",
    id_list="H+M",
    joints="annotated",
    fingertips="interwild",
    root=WRIST,
    scale="none",
    source="Moon et al., ECCV 2020 (InterNet), dataset.py",
    metrics=(
        Metric("MPJPE", "pooled cells", ALL_SH_IH),
        Metric("MPJPE-XY", "pooled cells"),
        Metric("MPJPE-Z", "pooled cells"),
        Metric("MRRPE", "entries", root="left wrist - right wrist", subset="hand type interacting, both wrists labelled"),
        Metric("handedness", "entries", unit="%", root="-", subset="hand type valid"),
    ),
    select=two_hand_rules.select_all,
    measure=lambda truth, prediction, _: two_hand_rules.measure_internet(truth, prediction),
)
_LEFT_RIGHT = (
    Metric("MPJPE left", "entries"),
    Metric("MPJPE right", "entries"),
    Metric("MPVPE left", "entries"),
    Metric("MPVPE right", "entries"),
)
_INTAGHAND = Protocol(
    name="ih26m/intaghand",
    data="interhand26m",
    split="test",
    subset="InterHand2.6M v1.0 5 fps test, H + M, IH with valid hand type and both MANO fits, not black",
    id_list="H+M",
    joints="regressed from the MANO fit",
    fingertips="intaghand",
    root=MCP,
    scale="true length of bone 0-9, each hand",
    source="Li et al., CVPR 2022 (IntagHand), eval_interhand.py; also ACR",
    metrics=(
        Metric("MPJPE", "hands"),
        Metric("MPJPE-XY", "hands"),
        Metric("MPJPE-Z", "hands"),
        *_mesh_set("hands"),
        *_LEFT_RIGHT,
    ),
    select=two_hand_rules.select_pairs,
    measure=lambda truth, prediction, _: two_hand_rules.measure_meshes(truth, prediction, MIDDLE_MCP, "bone"),
    needs_mano=True,
    needs_brightness=True,
)
_HIC = Protocol(
    name="hic/interwild",
    data="hic",
    split="test",
    subset="HIC, every annotation of HIC.json",
    id_list="H+M",
    joints="regressed from the true mesh",
    fingertips="interwild",
    root=WRIST,
    scale="none",
    source="Moon, CVPR 2023 (InterWild), HIC.py; its MPJPE is ours: mean over a hand's joints, then like MPVPE",
    metrics=(
        Metric("MPJPE", "entries", ALL_SH_IH),
        Metric("MPJPE-XY", "entries"),
        Metric("MPJPE-Z", "entries"),
        *_mesh_set("entries", ALL_SH_IH),
        Metric("MRRPE", "entries", root="left wrist - right wrist", subset="hand type interacting, both meshes"),
    ),
    select=two_hand_rules.select_with_mesh,
    measure=lambda truth, prediction, _: two_hand_rules.measure_meshes(
        truth, prediction, two_hand_rules.WRIST, "none", (two_hand_rules.WRIST,), by_hand=True
    ),
    needs_mano=True,
)
_SIMILARITY = "similarity, reflections accepted"


def _single_hand_metrics(prefix: str, root: str, scale: str, vertices: bool) -> tuple[Metric, ...]:
    joints = (
        Metric(prefix + "MPJPE", "pooled cells", root=root, scale=scale),
        Metric(prefix + "AUC joints", "pooled cells", unit="", root=root, scale=scale),
    )
    if not vertices:
        return joints
    names = {"MPVPE": "mm", "AUC vertices": "", "F@5": "", "F@15": ""}
    return joints + tuple(Metric(prefix + name, "entries", unit=unit, root=root, scale=scale) for name, unit in names.items())


_FREIHAND = Protocol(
    name="freihand",
    data="freihand",
    split="evaluation",
    subset="FreiHAND evaluation set, 3,960 right hands",
    id_list="H+M",
    joints="evaluation_xyz.json",
    fingertips="freihand",
    root="none (camera frame), or Procrustes",
    scale="none, or similarity",
    source="Zimmermann et al., ICCV 2019 (FreiHAND), eval.py",
    metrics=(*_single_hand_metrics("PA-", PROCRUSTES, _SIMILARITY, True), *_single_hand_metrics("", "none (camera frame)", "none", True)),
    select=single_hand_rules.select_right_hands,
    measure=lambda truth, prediction, _: single_hand_rules.measure_right_hands(truth, prediction, scale_and_translation=False),
    groups=("right", "-"),
)
_HO3D = replace(
    _FREIHAND,
    name="ho3d-v2",
    data="ho3d",
    subset="HO-3D v2 evaluation set, 11,524 right hands",
    joints="evaluation_xyz.json",
    fingertips="smplx",
    source="Hampali et al., CVPR 2020 (HO-3D), eval.py",
    metrics=(*_FREIHAND.metrics, *_single_hand_metrics("ST-", WRIST, "true length of bone 0-9", False)),
    measure=lambda truth, prediction, _: single_hand_rules.measure_right_hands(truth, prediction, scale_and_translation=True),
)


def _pen(prefix: str) -> tuple[Metric, ...]:
    penetrating = "pairs that share volume"
    return (
        Metric(prefix + "PenVol", "entries", unit="cm3"),
        Metric(prefix + "PenVol exact", "entries", unit="cm3"),
        Metric(prefix + "PenVol penetrating", "entries", unit="cm3", subset=penetrating),
        Metric(prefix + "PenDist", "entries", unit="cm"),
        Metric(prefix + "PenDist mean", "entries", unit="cm"),
        Metric(prefix + "ProxRatio", "entries", unit=""),
        Metric(prefix + "penetrating", "entries", unit=""),
    )


_PLAUSIBILITY = Protocol(
    name="plausibility",
    data="interhand26m",
    split="test",
    subset="InterHand2.6M v1.0 5 fps test, H + M, IH with both MANO fits",
    id_list="H+M",
    joints="-",
    fingertips="interwild",
    root="-",
    scale="none",
    source="no code is public; defined in evaluation/plausibility.py (1 mm lattice, deepest vertex, gap of at most 5 mm)",
    metrics=(*_pen(""), *_pen("truth ")),
    select=two_hand_rules.select_interacting,
    measure=plausibility.measure_plausibility,
    needs_mano=True,
)
_SYNTHETIC = Protocol(
    name="synthetic/two-hand-1000",
    data="synthetic",
    split="-",
    subset="synthetic: 1,000 scenes of two hands by seed, 500 interacting and 500 apart",
    id_list="H+M",
    joints="of the bundled hand",
    fingertips="-",
    root=WRIST,
    scale="none",
    source="this project, evaluation/synthetic.py",
    metrics=(
        Metric("MPJPE", "entries", ALL_SH_IH),
        Metric("MPJPE-XY", "entries"),
        Metric("MPJPE-Z", "entries"),
        *_mesh_set("entries", ALL_SH_IH),
        Metric("MRRPE", "entries", ALL_SH_IH, root="left wrist - right wrist", subset="both hands valid and found"),
        *(
            Metric(f"{name}, {tier}", "entries", subset=f"hands with {tier[7:]} of the joints out of sight")
            for tier in HIDDEN_TIERS
            for name in ("MPJPE", "PA-MPJPE")
        ),
        Metric("shared volume", "entries", ALL_SH_IH, unit="cm3", root="-", subset="both hands found"),
    ),
    select=synthetic_rules.select_shown,
    measure=synthetic_rules.measure_synthetic,
    groups=("apart", "interacting"),
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        _INTERWILD,
        replace(
            _INTERWILD,
            name="ih26m/interwild-mcp",
            root=MCP,
            source="InterWild's rule with another root; a hand counts only where that joint has 3D",
            measure=lambda truth, prediction, _: two_hand_rules.measure_interwild(truth, prediction, MIDDLE_MCP),
        ),
        replace(_INTERWILD, name="ih26m/interwild-hm", id_list="H+M", subset="InterHand2.6M v1.0 5 fps test, H + M, SH + IH"),
        _INTERNET,
        replace(_INTERNET, name="ih26m/internet-h", id_list="H", subset="InterHand2.6M v1.0 5 fps test, H, SH + IH"),
        replace(_INTERNET, name="ih26m/internet-m", id_list="M", subset="InterHand2.6M v1.0 5 fps test, M, SH + IH"),
        replace(
            _INTERNET,
            name="ih26m/mmpose",
            source="mmpose, InterHandMetric: InterNet's rule, every joint of every sample pooled",
            metrics=tuple(replace(metric, averaging="entries") for metric in _INTERNET.metrics),
        ),
        _INTAGHAND,
        replace(
            _INTAGHAND,
            name="ih26m/intaghand-wrist",
            root=WRIST,
            source="Ren et al., ICCV 2023 (DIR), with its default root; MRRPE is its root error",
            metrics=(*_INTAGHAND.metrics, Metric("MRRPE", "entries", root="left wrist - right wrist", scale="none")),
            measure=lambda truth, prediction, _: two_hand_rules.measure_meshes(
                truth, prediction, two_hand_rules.WRIST, "bone", (two_hand_rules.WRIST,)
            ),
        ),
        replace(
            _INTAGHAND,
            name="ih26m/omnihands",
            subset="InterHand2.6M v1.0 5 fps test, H + M, IH with both MANO fits",
            fingertips="manopth",
            scale="true length of bone 0-9 (at least 1 cm), each hand",
            source="OmniHands / 4DHands, eval_error; its mean over validation batches is taken as the mean over samples",
            metrics=(
                Metric("MPJPE", "entries"),
                Metric("MPJPE-XY", "entries"),
                Metric("MPJPE-Z", "entries"),
                *_mesh_set("entries"),
                Metric("MRRPE@mcp3", "entries", root="left - right middle MCP", scale="none"),
                Metric("MRRPE", "entries", root="left wrist - right wrist", scale="none"),
            ),
            select=two_hand_rules.select_interacting,
            measure=lambda truth, prediction, _: two_hand_rules.measure_meshes(
                truth, prediction, MIDDLE_MCP, "bone, at least 1 cm", (MIDDLE_MCP, two_hand_rules.WRIST)
            ),
            needs_brightness=False,
        ),
        _HIC,
        replace(
            _HIC,
            name="hic/mcp-scale",
            root=MCP,
            scale="true length of bone 0-9, each hand",
            source="ours, for comparison with rows that use the middle MCP and the true scale",
            measure=lambda truth, prediction, _: two_hand_rules.measure_meshes(
                truth, prediction, MIDDLE_MCP, "bone", (two_hand_rules.WRIST,), by_hand=True
            ),
        ),
        replace(
            _INTERWILD,
            name="rih/interwild",
            data="reinterhand",
            subset="Re:InterHand, the three test captures, both hands",
            id_list="H+M",
            joints="regressed from the MANO fit",
            source="Moon et al., NeurIPS 2023 (Re:InterHand), as in InterWild's ReInterHand.py",
            metrics=(
                Metric("MPJPE", "cells"),
                Metric("MPJPE-XY", "cells"),
                Metric("MPJPE-Z", "cells"),
                *_mesh_set("entries"),
                Metric("MRRPE", "entries", root="left wrist - right wrist", subset="both wrists annotated"),
                Metric("RRVE", "entries", root="right wrist"),
            ),
            select=two_hand_rules.select_both_meshes,
            measure=lambda truth, prediction, _: two_hand_rules.measure_reinterhand(truth, prediction),
            needs_mano=True,
        ),
        _FREIHAND,
        _HO3D,
        replace(_HO3D, name="ho3d-v3", subset="HO-3D v3 evaluation set, 20,137 right hands"),
        _PLAUSIBILITY,
        _SYNTHETIC,
        replace(
            _SYNTHETIC,
            name="synthetic/mixed-500",
            subset="synthetic: 500 scenes of one or two hands by seed",
            groups=("one hand", "two hands"),
        ),
    )
}


def protocol_named(name: str) -> Protocol:
    """UserError naming all of them if there is no such protocol."""
    if name not in PROTOCOLS:
        raise UserError(f"no protocol is called {name!r}; choose one of {', '.join(PROTOCOLS)} (twohands evaluate --list tells them apart)")
    return PROTOCOLS[name]
