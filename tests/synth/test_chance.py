"""Draws by odds take as much from a generator as numpy's own, and give the same."""

import numpy as np

from twohands.synth.chance import pick, sign


def test_draws_are_those_of_the_generators_choice() -> None:
    ours, numpys = np.random.default_rng(4), np.random.default_rng(4)
    for odds in ((0.3, 0.5, 0.2), (0.04, 0.36, 0.3, 0.05, 0.25), (1.0,)):
        assert [pick(ours, odds) for _ in range(200)] == [int(numpys.choice(len(odds), p=odds)) for _ in range(200)]
    assert [sign(ours) for _ in range(50)] == [float(numpys.choice([-1.0, 1.0])) for _ in range(50)]
    assert ours.random() == numpys.random()


def test_odds_need_not_add_up_to_one() -> None:
    assert [pick(np.random.default_rng(k), (3.0, 1.0)) for k in range(20)] == [
        pick(np.random.default_rng(k), (0.75, 0.25)) for k in range(20)
    ]
