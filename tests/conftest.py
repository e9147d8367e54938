"""What many tests share: a seeded generator, the bundled hand, and a hypothesis profile that is the same on every machine."""

import pytest
import torch
from hypothesis import settings

# No deadline: two cores that share a machine with others have slow moments, and a slow example is no wrong example.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("house")


@pytest.fixture
def generator() -> torch.Generator:
    """A generator with a fixed seed, fresh for each test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def hand():
    """The bundled hand model; loaded once, it is never written to."""
    from twohands.hands.bundled import load_bundled_hand

    return load_bundled_hand()
