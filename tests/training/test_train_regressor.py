"""Stage 1's trainer: it learns, it resumes exactly, it writes weights that load."""

import dataclasses
from pathlib import Path

import pytest
import torch

from twohands.checkpoints import load_weights, read_config, save_weights
from twohands.data.shards import ShardSet
from twohands.errors import UserError
from twohands.regress.network import Regressor, RegressorConfig
from twohands.training.fit import FitConfig
from twohands.training.pairs import AugmentConfig, PairBatches
from twohands.training.regressor import RegressorModule, RegressorTraining, train_regressor

TINY = RegressorConfig(
    trunk="residual", crop_px=32, stem=16, widths=(16, 16, 16, 16), depths=(1, 1, 1, 1), align_widths=(16, 16, 16, 16),
    align_depths=(1, 1, 1, 1), prior_width=32, width=24, heads=2, depth=1, pyramid=16, hidden=32,
)  # fmt: skip


def run(out: Path, folder: Path, steps: int, stop: int | None = None) -> RegressorTraining:
    """Trains for `steps`; with `stop` only the first part of the same schedule."""
    fit = FitConfig(out, steps, warmup_steps=2, checkpoint_steps=stop or steps, precision="32-true", accelerator="cpu")
    return RegressorTraining(fit, (folder,), (1.0,), TINY, batch=4, augment=AugmentConfig(), validation=4)


def test_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path, shard_folder: Path) -> None:
    whole = train_regressor(run(tmp_path / "whole", shard_folder, 6))
    broken = run(tmp_path / "broken", shard_folder, 6)
    # Cut off after three of six steps, as a killed process would be: only the checkpoint stays.
    torch.manual_seed(broken.fit.seed)
    first = RegressorModule(broken)
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint
    from torch.utils.data import DataLoader

    kept = ShardSet.read(sorted(shard_folder.glob("*.npz"))).without_last(4)
    saver = ModelCheckpoint(broken.fit.out, filename="last", every_n_train_steps=3, enable_version_counter=False)
    trainer = lightning.Trainer(
        max_steps=3, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", callbacks=[saver],
        gradient_clip_val=broken.fit.clip_norm,
    )  # fmt: skip
    stream = PairBatches([kept], [1.0], 4, 32, 16, 0, augment=broken.augment)
    trainer.fit(first, DataLoader(stream, batch_size=None))
    resumed = train_regressor(broken)
    one, two = Regressor(TINY), Regressor(TINY)
    load_weights(whole, one)
    load_weights(resumed, two)
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)


def test_it_learns_and_its_weights_load(tmp_path: Path, shard_folder: Path) -> None:
    training = run(tmp_path / "run", shard_folder, 40)
    training = dataclasses.replace(training, fit=dataclasses.replace(training.fit, learning_rate=3e-3, checkpoint_steps=40))
    path = train_regressor(training)
    assert read_config(path, RegressorConfig) == TINY
    batch_loss = []
    for weights in (None, path):
        torch.manual_seed(0)
        module = RegressorModule(training)
        if weights:
            load_weights(weights, module.network)
        module.eval()
        stream = ShardSet.read(sorted(shard_folder.glob("*.npz"))).without_last(4)
        with torch.no_grad():
            batch_loss.append(sum(float(module.loss(PairBatches([stream], [1.0], 8, 32, 16, 9).make(k))[0]) for k in range(3)))
    assert batch_loss[1] < 0.9 * batch_loss[0]


def test_only_the_part_that_is_named_learns_and_the_file_may_lack_it(tmp_path: Path, shard_folder: Path) -> None:
    network = Regressor(TINY)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    without = torch.nn.Module()
    for name, part in network.named_children():
        if name != "other":
            without.add_module(name, part)
    save_weights(tmp_path / "before.safetensors", without, TINY, {}, half=False)
    training = dataclasses.replace(run(tmp_path / "run", shard_folder, 3), start_from=tmp_path / "before.safetensors", only=("other",))
    after = Regressor(TINY)
    load_weights(train_regressor(training), after)
    for name, t in after.state_dict().items():
        if not name.startswith("other."):
            torch.testing.assert_close(t, before[name], atol=2e-3, rtol=2e-3, msg=name)  # halves in the file
    first = RegressorModule(dataclasses.replace(training, start_from=None))
    learning = [name for name, p in RegressorModule(training).network.named_parameters() if p.requires_grad]
    assert learning == [f"other.{name}" for name, _ in first.network.other.named_parameters()]
    with pytest.raises(UserError, match="no part 'hands'"):
        RegressorModule(dataclasses.replace(training, only=("hands",)))


def test_a_larger_network_begins_as_the_smaller_one(tmp_path: Path, shard_folder: Path) -> None:
    torch.manual_seed(0)
    small = RegressorConfig(crop_px=64, width=24, heads=2, depth=1, pyramid=16, hidden=16)
    before = Regressor(small)
    save_weights(tmp_path / "before.safetensors", before, small, {}, half=False)
    training = dataclasses.replace(
        run(tmp_path / "run", shard_folder, 1),
        network=dataclasses.replace(small, branch_at=8, depth=3, map_blocks=2, presence=8),
        start_from=tmp_path / "before.safetensors",
    )
    module = RegressorModule(training)
    crops, geometry, present = torch.rand(2, 2, 3, 64, 64), torch.rand(2, 2, 8), torch.ones(2, 2, dtype=torch.bool)
    with torch.inference_mode():
        a, b = (network.eval()(crops, geometry, present)[0] for network in (before, module.network))
    torch.testing.assert_close(a.joints_xy, b.joints_xy, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a.rotation, b.rotation, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a.presence_logit, b.presence_logit, atol=1e-5, rtol=1e-5)
    learns = {name for name, p in module.network.named_parameters() if p.requires_grad}
    assert {
        "presence.2.weight",
        "fusion.blocks.2.mlp.2.weight",
        "maps.merges.1.3.project.weight",
        "encoders.own_16.0.expand.weight",
    } <= learns
    assert not any(name.startswith(("encoders.early.", "encoders.align.late.")) for name in learns)
    assert {id(p) for p in module.slow_parameters()} >= {id(p) for p in module.network.encoders.own_16.parameters()}


def test_decisions_follow_the_weights_that_are_named_and_not_the_truth(tmp_path: Path, shard_folder: Path) -> None:
    torch.manual_seed(5)
    judge = Regressor(TINY)
    with torch.no_grad():  # a judge that denies every hand, which the shards' truth never does
        judge.parameters_head.states.weight.zero_()
        judge.parameters_head.states.bias.fill_(-3.0)
    save_weights(tmp_path / "judge.safetensors", judge, TINY, {}, half=False)
    training = dataclasses.replace(run(tmp_path / "run", shard_folder, 40), decisions_of=tmp_path / "judge.safetensors")
    training = dataclasses.replace(training, fit=dataclasses.replace(training.fit, learning_rate=3e-3, average=0.5))
    batch = PairBatches([ShardSet.read(sorted(shard_folder.glob("*.npz")))], [1.0], 8, 32, 16, 9).make(0)
    module = RegressorModule(training)
    _, terms = module.loss(batch)
    assert terms["decisions"] > 1
    assert not {"state", "other"} & terms.keys()
    assert not [name for name in module.state_dict() if "judge" in name]
    load_weights(train_regressor(training), module.network)
    module.eval()
    with torch.no_grad():
        said, _ = module.network(batch.crops, batch.view.geometry, batch.present, batch.priors, batch.use_prior)
        _, after = module.loss(batch)
    assert after["decisions"] < 0.5 * terms["decisions"]
    assert float(said.presence_logit[batch.present].max()) < 0


def test_decisions_on_crops_of_another_size_are_refused(tmp_path: Path, shard_folder: Path) -> None:
    larger = dataclasses.replace(TINY, crop_px=64)
    save_weights(tmp_path / "judge.safetensors", Regressor(larger), larger, {}, half=False)
    training = dataclasses.replace(run(tmp_path / "run", shard_folder, 3), decisions_of=tmp_path / "judge.safetensors")
    with pytest.raises(UserError, match="decides on crops of 64 px, and this run has 32 px"):
        RegressorModule(training)
