import pytest
import torch

from twohands.layers import Attention, MixedConv2d, Mlp, TransformerBlock, sinusoids


def test_attention_does_not_care_for_the_order_of_tokens(generator):
    attention, tokens, order = Attention(16, 4), torch.randn(2, 7, 16, generator=generator), torch.randperm(7, generator=generator)
    assert torch.allclose(attention(tokens)[:, order], attention(tokens[:, order]), atol=1e-6)


def test_padded_tokens_change_nothing(generator):
    block, tokens = TransformerBlock(16, 4), torch.randn(2, 7, 16, generator=generator)
    valid = torch.tensor([True] * 5 + [False] * 2).expand(2, -1)
    other = tokens.clone()
    other[:, 5:] = 1e3
    assert torch.allclose(block(tokens, valid)[:, :5], block(other, valid)[:, :5], atol=1e-6)
    assert torch.allclose(block(tokens, valid)[:, :5], block(tokens[:, :5]), atol=1e-6)


def test_closed_gates_make_a_modulated_block_the_identity(generator):
    block, tokens = TransformerBlock(16, 4, modulated=True), torch.randn(2, 7, 16, generator=generator)
    modulation = torch.randn(2, 6, 16, generator=generator)
    modulation[:, [2, 5]] = 0.0
    assert torch.equal(block(tokens, modulation=modulation), tokens)


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="10"):
        Attention(10, 4)


def test_mlp_treats_tokens_alike(generator):
    mlp, token = Mlp(8, 16, 4), torch.randn(8, generator=generator)
    assert torch.allclose(mlp(token.expand(3, 5, 8)), mlp(token).expand(3, 5, 4), atol=1e-6)


def test_sinusoids_tell_steps_apart_and_have_constant_length():
    features = sinusoids(torch.arange(1000.0), 64)
    assert torch.allclose(features.norm(dim=-1), torch.full((1000,), 32.0**0.5), rtol=1e-5)
    assert torch.cdist(features, features).fill_diagonal_(1.0).min() > 1e-2


def test_with_bfloat16_products_kernels_of_single_channels_stay_in_single_precision(generator):
    x = torch.randn(2, 8, 9, 9, generator=generator)
    alone, dense = MixedConv2d(8, 8, 3, groups=8), MixedConv2d(8, 8, 3)
    exact = alone(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(alone(x), exact)
        assert alone(x.bfloat16()).dtype == torch.float32
        assert dense(x).dtype == torch.bfloat16
