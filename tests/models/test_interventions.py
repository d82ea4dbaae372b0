import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from torch import nn

from manifold_lab.core.errors import InputError
from manifold_lab.core.random_streams import stream
from manifold_lab.data import load
from manifold_lab.metrics.linear import held_out_r2, second_moments
from manifold_lab.models.bottlenecks import read_bottlenecks
from manifold_lab.models.interventions import ChannelGain, ChannelNoise
from manifold_lab.models.mobilenet import Network, build, make_bottleneck
from manifold_lab.models.specs import DIGITS, Intervention, NetworkSpec
from manifold_lab.models.weights import open_weights, save_weights
from manifold_lab.theory import channel_r2, noise_for
from manifold_lab.training import RECIPES, Bookkeeping, Outcome, train
from manifold_lab.training.distributed import Ranks
from manifold_lab.training.distributed_layers import shared_batch
from manifold_lab.training.optim import gradient_norms


def changed(activation: str = "linear", **fields: object) -> NetworkSpec:
    return dataclasses.replace(DIGITS, bottleneck_activation=activation, intervention=Intervention(**fields))  # type: ignore[arg-type]


def network(spec: NetworkSpec) -> Network:
    return build(spec, stream(3, "weights"))


X = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("spec", [changed(noise=0.0), changed("leaky_relu", slope=1.0), changed(gain=1.0),
                                  changed(shift=0.0)])  # fmt: skip
def test_without_a_dose_it_is_the_linear_network_bit_for_bit(spec: NetworkSpec) -> None:
    nets = [network(one).train() for one in (DIGITS, spec)]
    for net in nets:
        torch.manual_seed(1)
        net(X).square().sum().backward()
    for a, b in zip(*(list(net.named_parameters()) for net in nets), strict=True):
        assert a[0] == b[0] and torch.equal(a[1], b[1]) and torch.equal(a[1].grad, b[1].grad)  # type: ignore[arg-type]
    assert torch.equal(nets[0].eval()(X), nets[1].eval()(X))


FORWARD = {
    "leaky": (changed("leaky_relu", slope=0.25), lambda u: torch.where(u < 0, 0.25 * u, u)),
    "abs": (changed("abs"), torch.abs),
    "gain": (changed(gain=0.1), lambda u: u * torch.tensor([0.1] * 4 + [1.0] * 4, dtype=u.dtype).view(1, -1, 1, 1)),
    "gain, then relu6": (
        changed("relu6", gain=0.5), lambda u: (u * torch.tensor([0.5] * 4 + [1.0] * 4).view(1, -1, 1, 1)).clamp(0, 6)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORWARD)
def test_forward_by_definition_and_gradient_by_finite_differences(name: str) -> None:
    spec, by_hand = FORWARD[name]
    site = make_bottleneck(spec, 8)
    u = torch.randn(2, 8, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.allclose(site(u), by_hand(u), rtol=1e-6)
    assert torch.autograd.gradcheck(site, u, eps=1e-6, atol=1e-6)


def test_renormed_is_a_batch_norm_of_relu6() -> None:
    site = make_bottleneck(changed("relu6", renormed=True), 8)
    u = 3 * torch.randn(4, 8, 5, 5, generator=torch.Generator().manual_seed(1))
    y = site(u)
    assert torch.allclose(y, nn.BatchNorm2d(8)(u.clamp(0, 6)), atol=1e-6)
    assert torch.allclose(y.mean((0, 2, 3)), torch.zeros(8), atol=1e-6)


def test_the_shift_is_the_initial_bias_of_every_projection_and_of_nothing_else() -> None:
    plain, shifted = network(changed("relu6")), network(changed("relu6", shift=2.0))
    for (name, a), (_, b) in zip(plain.named_parameters(), shifted.named_parameters(), strict=True):
        assert torch.equal(a + 2.0 * name.endswith("project.norm.bias"), b)


def test_relu6_at_the_sum_acts_behind_the_addition_of_blocks_that_add_and_nowhere_else() -> None:
    spec = dataclasses.replace(changed("relu6", placement="sum"), rows=((1, 16, 1, 1), (6, 24, 2, 1)))
    net = network(spec).eval()
    adds = [block.stage.shortcut == "identity" for block in net.blocks]  # type: ignore[union-attr]
    assert sorted(set(adds)) == [False, True]
    for block, add in zip(net.blocks, adds, strict=True):
        x = torch.randn(2, block.stage.inputs, 8, 8)  # type: ignore[union-attr]
        branch = block.project.norm(block.project.conv(block.depthwise(block.expand(x) if block.expand else x)))  # type: ignore[union-attr, operator]
        assert torch.allclose(block(x)[0], (x + branch).clamp(0, 6) if add else branch, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_noise_has_its_share_of_each_channels_variance_and_no_gradient_of_its_own(shared: bool, training: bool) -> None:
    scales = torch.tensor([0.5, 3.0]).view(1, -1, 1, 1)
    x = (1.0 + torch.randn(400, 2, 6, 6, generator=torch.Generator().manual_seed(2)) * scales).requires_grad_()
    site = ChannelNoise(2, 0.3634, shared, seed=5)
    site.variance.copy_(scales.flatten() ** 2)
    y = site.train(training)(x)
    noise = (y - x).detach()
    n = 400 if shared else 400 * 36
    ratio = noise.var((0, 2, 3)) / scales.flatten() ** 2
    assert ((ratio / 0.3634 - 1).abs() < 4 * (2 / n) ** 0.5 + 0.05 * training).all()
    assert (noise.std((2, 3)).max() < 1e-5) == shared
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))  # type: ignore[arg-type]


@pytest.mark.parametrize("slope", [1.0, 0.5, 0.1, 0.0])
def test_both_families_leave_a_normal_channel_as_readable_as_the_closed_form_says(slope: float) -> None:
    z = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(4))
    leaky = torch.where(z < 0, slope * z, z)
    noise = ChannelNoise(1, noise_for(channel_r2(slope)), seed=1)(z.view(-1, 1, 1, 1)).view(-1, 1)
    for y in (leaky, noise):
        half = len(z) // 2
        found = held_out_r2(second_moments(y[:half], z[:half]), second_moments(y[half:], z[half:]), 1)
        assert abs(found - channel_r2(slope)) < 4 / half**0.5


def test_held_out_r2_is_scikit_learns() -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(300, 4)) @ draws.normal(size=(4, 4))
    x[:, 3] = 2 * x[:, 0]  # a repeated channel
    y = x @ draws.normal(size=(4, 3)) + draws.normal(size=(300, 3)) + 5.0
    model = LinearRegression().fit(x[:200], y[:200])
    errors, spread = (y[200:] - model.predict(x[200:])) ** 2, (y[200:] - y[200:].mean(0)) ** 2
    a, b = (second_moments(torch.tensor(x[part]), torch.tensor(y[part])) for part in (slice(200), slice(200, None)))
    assert held_out_r2(a, b, 3) == pytest.approx(1 - errors.sum() / spread.sum(), abs=1e-9)


def test_noise_moves_no_other_stream_and_every_evaluation_draws_the_same() -> None:
    net = network(changed(noise=0.5))
    for (name, a), (_, b) in zip(network(DIGITS).named_parameters(), net.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    before = torch.get_rng_state()
    net.blocks[0].train()(torch.ones(2, net.blocks[0].stage.inputs, 8, 8))  # type: ignore[union-attr]
    one, two = (net.eval()(X) for _ in range(2))
    third = net(X)
    assert torch.equal(one, two) and not torch.equal(one, third)
    assert torch.equal(before, torch.get_rng_state())
    sites = [module for module in net.modules() if isinstance(module, ChannelNoise)]
    assert len({int(site.seed) for site in sites}) == len(sites) == len(net.blocks)


def test_a_resumed_training_with_noise_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPES["smoke"], images=640, evaluate_every=320)

    def ended(folder: Path, stop: int | None = None) -> tuple[Outcome | None, dict[str, torch.Tensor]]:
        net, images = network(changed(noise=0.3, noise_shared=False)), load("digits", seed=0)

        def report(step: int, *_: object) -> None:
            if step == stop:
                raise KeyboardInterrupt

        keeping = Bookkeeping(folder, checkpoint_every=4, check_every=1, bar=False, report=report)
        try:
            return train(net, images, recipe, seed=0, bookkeeping=keeping), net.state_dict()
        except KeyboardInterrupt:
            return None, {}

    whole, state = ended(tmp_path / "whole")
    assert ended(tmp_path / "cut", stop=6)[0] is None
    again, resumed = ended(tmp_path / "cut")
    assert whole is not None and again is not None
    assert all(torch.equal(state[name], resumed[name]) for name in state)
    assert whole.test == again.test and whole.gradients == again.gradients
    assert list(whole.gradients) == [1, 5, 10]


def test_gradient_norms_are_those_of_all_weights_of_a_part() -> None:
    net = network(DIGITS).train()
    net(X).square().sum().backward()
    norms = gradient_norms(net)
    assert list(norms) == ["stem", *(f"blocks.{place}" for place in range(len(net.blocks))), "last", "classifier"]
    flat = torch.cat([weight.grad.flatten() for weight in net.blocks[1].parameters()])  # type: ignore[union-attr]
    assert norms["blocks.1"] == pytest.approx(float(flat.norm()), rel=1e-5)


def test_what_a_bottleneck_keeps_is_what_brute_force_finds() -> None:
    net, draws = network(changed("relu6")).eval(), torch.Generator().manual_seed(0)
    fit, test = torch.randn(2, 20, 1, 8, 8, generator=draws)
    found = read_bottlenecks(net, fit.split(7), test.split(6))
    kept: list[torch.Tensor] = []
    handle = net.blocks[2].project.norm.register_forward_hook(lambda _, __, u: kept.append(u))  # type: ignore[union-attr]
    net(fit), net(test)
    handle.remove()
    u, v = (one.detach().movedim(1, -1).flatten(0, -2).numpy() for one in kept)
    model = LinearRegression().fit(u.clip(0, 6), u)
    errors = ((v - model.predict(v.clip(0, 6))) ** 2).sum()
    assert found[2].linear_r2 == pytest.approx(1 - errors / ((v - v.mean(0)) ** 2).sum(), abs=1e-5)
    active = (v > 0) & (v < 6)
    assert found[2].one_preimage == pytest.approx(active.all(1).mean()) and found[2].active == pytest.approx(
        active.mean()
    )
    assert all(one.linear_r2 == pytest.approx(1.0) for one in read_bottlenecks(network(DIGITS), [fit], [test]))
    assert read_bottlenecks(network(changed(noise=0.1)), [fit], [test])[0].one_preimage is None


@pytest.mark.parametrize(("fields", "why"), [
    ({"slope": 0.5}, "slope: 0.5 is not used by bottleneck_activation linear"), ({"slope": 0.0}, "slope"),
    ({"noise": -1.0}, "noise"), ({"noise_shared": True}, "no noise to share"), ({"gain": 0.0}, "gain"),
    ({"placement": "sun"}, "did you mean 'sum'"),
])  # fmt: skip
def test_what_means_nothing_is_refused(fields: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        changed(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{"noise": 0.3}, {"gain": 0.1}, {"renormed": True}, {"placement": "sum"}])
def test_weights_of_an_intervened_network_are_saved_and_opened(fields: dict[str, object], tmp_path: Path) -> None:
    net = network(changed("relu6", **fields)).eval()
    save_weights(net, tmp_path / "one.safetensors")
    again = open_weights(tmp_path / "one.safetensors")
    assert again.spec == net.spec and torch.equal(net.eval()(X), again.eval()(X))


def test_noise_refuses_a_batch_that_several_processes_share() -> None:
    with (
        pytest.raises(InputError, match="ChannelNoise needs the whole batch"),
        shared_batch(network(changed(noise=0.1)), Ranks(0, 2), 4),
    ):
        pass


def test_gain_is_on_the_first_half() -> None:
    y = ChannelGain(5, 0.1)(torch.ones(1, 5, 1, 1)).flatten()
    assert y.tolist() == pytest.approx([0.1, 0.1, 1, 1, 1])


def test_noise_and_running_variance_are_the_same_in_every_layout_of_memory() -> None:
    y = torch.randn(16, 6, 5, 4, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 7).view(1, -1, 1, 1)
    for shared in (False, True):
        made = [ChannelNoise(6, 0.5, shared) for _ in range(2)]
        plain, last = made[0](y), made[1](y.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(last, plain)
        np.testing.assert_allclose(made[0].variance, 0.9 + 0.1 * y.double().numpy().var((0, 2, 3)), rtol=1e-5)
