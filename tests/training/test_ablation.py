"""Small networks for questions: what is kept of the frozen part, and which teachers a batch has."""

import numpy as np
import pytest
import torch

from twohands.data.shards import ShardSet
from twohands.regress.network import LandmarkEncoders
from twohands.synth.generate import write_shards
from twohands.synth.scene import SceneKnobs
from twohands.training.ablation import Mixed, SmallRegressor, errors_on, plain_batches, with_priors
from twohands.training.pairs import PairBatch


@pytest.fixture(scope="module")
def network() -> SmallRegressor:
    torch.manual_seed(0)
    return SmallRegressor().eval()


@pytest.fixture(scope="module")
def batch(network: SmallRegressor, tmp_path_factory: pytest.TempPathFactory) -> PairBatch:
    paths = write_shards(tmp_path_factory.mktemp("shards"), 3, 2, SceneKnobs(size_px=64, interacting=0.0, bodies=0.0))
    return plain_batches(network, ShardSet.read(paths))[0]


@torch.no_grad()
def test_what_is_kept_is_what_the_landmark_network_says(network: SmallRegressor) -> None:
    crops = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    plain = LandmarkEncoders(network.config).eval()
    plain.load_state_dict(network.encoders.state_dict())
    plain.late.load_state_dict(plain.align.late.to_32.state_dict())
    kept, whole = network.encoders(network.encoders.packed(crops)), plain(crops)
    for name in ("fine", "middle", "coarse", "aligned"):
        a, b = getattr(kept, name), getattr(whole, name)
        assert a.shape == b.shape
        assert float((a - b).norm() / b.norm()) < 0.05, name  # bfloat16 and halves
    assert kept.reading is not None
    assert whole.reading is not None
    assert float((kept.reading.joints_xy - whole.reading.joints_xy).abs().max()) < 0.02


def test_packed_batches_predict(network: SmallRegressor, batch: PairBatch) -> None:
    assert batch.crops.shape[-2:] == (1, 1)
    errors = errors_on(network, [batch])
    assert np.isfinite(errors["mpjpe_mm"])
    assert errors_on(network, [batch], "teacher")["pck_0.1"] <= 1


def test_each_kind_of_prior_has_those_before_it(batch: PairBatch) -> None:
    has = [with_priors(batch, kinds).priors for kinds in ("keypoints", "parts", "depth")]
    assert [bool(p.has_keypoints.any()) for p in has] == [True, True, True]
    assert [bool(p.has_parts.any()) for p in has] == [False, True, True]
    assert [bool(p.has_depth.any()) for p in has] == [False, False, True]
    without = with_priors(batch, "none")
    assert not without.use_prior.any()
    assert not without.truth.prior_valid.any()
    assert batch.truth.prior_valid.any(), "the batch itself stays as it was"


def test_a_step_names_its_batch(batch: PairBatch) -> None:
    mixed = Mixed(([batch], [with_priors(batch, "parts")]), (0.5, 0.5), "depth", 0)
    drawn = [bool(mixed.make(step).priors.has_depth.any()) for step in range(12)]
    assert drawn == [bool(mixed.make(step).priors.has_depth.any()) for step in range(12)]
    assert set(drawn) == {True, False}
