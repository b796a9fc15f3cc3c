"""Everything that takes tensors runs on a device that is not the CPU, which a GPU is.

The device of torch is a stand-in, see tests/stand_in.py, on which transforms of torch.func, and so
Hessian products, cannot run.  Those of jax are two parts of the CPU, in a process of its own.
"""

import copy
import inspect
import os
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
import torch
from stand_in import DEVICE, OnDevice, OnDeviceGenerator, stand_in
from torch import nn

from sgdnoise import core, data, dimension, nets, noise
from sgdnoise.dynamics import adam, heavy_ball, sgd

pytestmark = pytest.mark.filterwarnings("ignore::sgdnoise.dimension.DimensionWarning")

GENERATOR = torch.Generator().manual_seed(0)
POINTS = torch.randn(120, 4, generator=GENERATOR, dtype=torch.float64)
ROWS = torch.randn(150, 12, generator=GENERATOR, dtype=torch.float64)
IMAGES = torch.randn(24, 3, 4, 4, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.arange(24) % 3
LOSSES = nn.CrossEntropyLoss(reduction="none")

# Options of estimators that have no default; None: takes no tensor of points alone, or is too slow
OPTIONS = {
    "estimate": None,  # `learned`, many times
    "find_neighbours": {"k": 3},
    "i3d": None,
    "metric_neighbours": {"k": 3},
}
ESTIMATORS = {
    name: function
    for name, function in vars(dimension).items()
    if inspect.isfunction(function)
    and next(iter(inspect.signature(function).parameters), "") == "points"
    and OPTIONS.get(name, {}) is not None
}


def options_of(name):
    parameters = inspect.signature(ESTIMATORS[name]).parameters
    return OPTIONS.get(name, {}) | ({"rng": 0} if "rng" in parameters else {})


def small_net():
    torch.manual_seed(1)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    return nets.freeze_batch_norm(nn.Sequential(*layers).double())


def problem_on(device):
    net = small_net().to(device)
    return nets.as_problem(net, LOSSES, IMAGES.to(device), LABELS.to(device))


def path(device, steps, make):
    problem, theta = problem_on(device)
    kind = OnDeviceGenerator if device == DEVICE else torch.Generator
    generator = kind().manual_seed(3)
    return [*islice(nets.walk(make(problem), theta, generator), steps)]


def by_minibatch(problem):
    return sgd(noise.minibatch(problem, 4), learning_rate=0.1)


def by_normal(problem):
    return heavy_ball(noise.isotropic(problem, 0.1), learning_rate=0.1, momentum=0.9)


def by_adam(problem):
    return adam(noise.minibatch(problem, 4), learning_rate=0.01)


def watched(device):
    net = small_net().to(device)
    images, labels = IMAGES.to(device), LABELS.to(device)
    return nets.watch(net, images, labels, LOSSES, n_probes=0).results()


def gram(rows):
    return core.Gram(core.GradientMatrix(rows), 1.0)


def rows_of(device):
    net = small_net().to(device)
    return nets.per_example_gradients(net, LOSSES, IMAGES.to(device), LABELS.to(device))


def loaded(device, folder):
    torch.save(small_net().state_dict(), folder / "a.pt")
    net = small_net().to(device)
    with torch.no_grad():
        net[0].weight.zero_()
    return nets.models.load(folder / "a.pt", net)(IMAGES.to(device))


# name -> what is computed on a device
COMPUTED = {
    "alignment": lambda d: noise.alignment(gram(ROWS.to(d)), (ROWS.T @ ROWS).to(d), 4).product,
    "alignment_exponent": lambda d: noise.alignment_exponent(*ROWS[:2].abs().to(d)),
    "autocorrelation": lambda d: noise.autocorrelation(ROWS.to(d), [1, 2]),
    "batch_means": lambda d: core.batch_means(ROWS.to(d), 5),
    "correlation_time": lambda d: noise.correlation_time(ROWS.to(d)),
    "covariance of a matrix": lambda d: gram(ROWS.to(d)).trace(),
    "eigenvalues": lambda d: core.eigenvalue_participation_ratio(ROWS[0].abs().to(d)),
    "extreme_value_index": lambda d: noise.extreme_value_index(ROWS.to(d)),
    "fisher_trace": lambda d: noise.fisher_trace((ROWS @ ROWS.T).to(d), ROWS[:, 0].abs().to(d)),
    "gaussian_twonn": lambda d: dimension.gaussian_twonn(ROWS[0].abs().to(d), 50, n_points=4),
    "gaussianity": lambda d: noise.gaussianity(ROWS.to(d), draws=19).energy,
    "gradient_noise_scale": lambda d: noise.gradient_noise_scale(ROWS.to(d)),
    "gradient_norm": lambda d: noise.gradient_norm(ROWS.to(d)),
    "mean": lambda d: core.mean(ROWS.to(d)),
    "normalized": lambda d: data.normalized(IMAGES.to(d)),
    "signal_to_noise": lambda d: noise.signal_to_noise(ROWS.to(d)),
    "tail_index": lambda d: noise.tail_index(ROWS.to(d)),
    "freeze_batch_norm": lambda d: small_net().to(d)(IMAGES.to(d)),
    "gradient_covariance": lambda d: nets.gradient_covariance(
        small_net().to(d), LOSSES, IMAGES.to(d), LABELS.to(d), batch_size=4
    ).trace(),
    "per_example_gradients": lambda d: rows_of(d).combine(
        torch.ones(24, dtype=torch.float64).to(d)
    ),
    "value": lambda d: (lambda problem, theta: problem.value(theta))(*problem_on(d)),
    "gradient": lambda d: (lambda problem, theta: problem.gradient(theta))(*problem_on(d)),
    "gradients": lambda d: (lambda problem, theta: problem.gradients(theta))(*problem_on(d)),
    "walk, minibatch": lambda d: path(d, 2, by_minibatch)[-1],
    "walk, normal": lambda d: path(d, 2, by_normal)[-1],
    "walk, adam": lambda d: path(d, 2, by_adam)[-1],
    "watch": lambda d: watched(d).participation_ratio.values,
}
NUMBERS = {"watch", "batch_means", "gaussianity"}  # for the host, whatever computed them


def numbers(result):
    """The numbers of a result, on the host."""
    if isinstance(result, OnDevice):
        return result.held.detach().numpy()
    if isinstance(result, (core.Estimate, core.Ratio)):
        return np.asarray(numbers(result.value))
    if torch.is_tensor(result):
        return result.detach().numpy()
    if isinstance(result, tuple) and not hasattr(result, "held"):
        return np.concatenate([np.ravel(numbers(part)) for part in result])
    return np.asarray(result)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_an_estimator_runs_on_a_device_and_stays_there(name):
    function, options = ESTIMATORS[name], options_of(name)
    expected = function(POINTS, **options)
    with stand_in():
        result = function(POINTS.to(DEVICE), **options)
    if torch.is_tensor(expected):
        assert isinstance(result, OnDevice)
        np.testing.assert_allclose(numbers(result), numbers(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", COMPUTED)
def test_a_computation_runs_on_a_device_and_stays_there(name):
    compute = COMPUTED[name]
    expected = compute(torch.device("cpu"))
    with stand_in():
        result = compute(DEVICE)
    if torch.is_tensor(expected) and name not in NUMBERS:
        assert isinstance(result, OnDevice)
    np.testing.assert_allclose(numbers(result), numbers(expected), rtol=1e-8, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*from a non-meta parameter")  # it is the stand-in
def test_a_checkpoint_is_loaded_to_the_device_of_the_network(tmp_path):
    expected = loaded(torch.device("cpu"), tmp_path)
    with stand_in():
        result = loaded(DEVICE, tmp_path)
    assert isinstance(result, OnDevice)
    np.testing.assert_allclose(numbers(result), numbers(expected), rtol=1e-10)


@pytest.mark.parametrize(
    "mix",
    [
        lambda: dimension.participation_ratio(POINTS.to(DEVICE), POINTS + 1, method="unbiased"),
        lambda: nets.gradient_covariance(small_net().to(DEVICE), LOSSES, IMAGES, LABELS),
        lambda: nets.as_problem(small_net(), LOSSES, IMAGES.to(DEVICE), LABELS.to(DEVICE)),
        lambda: nets.watch(small_net().to(DEVICE), IMAGES),
        lambda: POINTS.to(DEVICE) + POINTS,
    ],
    ids=["repeat", "examples", "network", "watch", "torch"],
)
def test_mixing_devices_is_an_error(mix):
    with stand_in(), pytest.raises((RuntimeError, ValueError), match=r"device|meta"):
        mix()


def transfers(work):
    """The number of transfers to the host, each of which waits for a GPU."""
    with stand_in() as count:
        work()
        return sum(count.values())


@pytest.mark.parametrize(
    ("make", "limit"), [(by_normal, 0), (by_minibatch, 1), (by_adam, 1)], ids=lambda f: str(f)[:24]
)
def test_a_step_of_a_walk_waits_for_the_device_at_most_once(make, limit):
    """Once, where the numbers of a minibatch are checked."""
    few, many = (transfers(lambda s=s: path(DEVICE, s, make)) for s in (2, 6))
    assert many - few <= 4 * limit


def test_products_with_a_covariance_do_not_wait_for_the_device():
    with stand_in() as count:
        covariance = gram(ROWS.to(DEVICE))
        vector = ROWS[0].to(DEVICE)
        before = sum(count.values())
        for _ in range(5):
            vector = covariance @ vector
        assert sum(count.values()) == before


def test_blocks_of_examples_wait_as_often_as_there_are_blocks():
    """The checks of a block read numbers; more examples in as many blocks read no more."""

    def covariance(n, block):
        net = small_net().to(DEVICE)
        images, labels = IMAGES[:n].to(DEVICE), LABELS[:n].to(DEVICE)
        nets.gradient_covariance(net, LOSSES, images, labels, block=block).trace()

    assert transfers(lambda: covariance(24, 12)) == transfers(lambda: covariance(12, 6))


def test_estimates_do_not_wait_for_every_point():
    few, many = (transfers(lambda n=n: dimension.twonn(POINTS[:n].to(DEVICE))) for n in (60, 120))
    assert many <= few + 5


def test_the_counter_counts():
    with stand_in() as count:
        x = POINTS.to(DEVICE)
        assert not count
        float(x[0, 0])
        bool(x[0, 0] > 0)
        x.cpu()
        x[0].tolist()
        x.numpy(force=True)
        with pytest.raises(TypeError, match=r"Tensor\.cpu"):
            x.numpy()
    assert sum(count.values()) == 5


def test_a_network_is_copied_on_its_device():
    with stand_in():
        net = copy.deepcopy(small_net().to(DEVICE))
        assert isinstance(net(IMAGES.to(DEVICE)), OnDevice)


JAX = """
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from sgdnoise import core, dimension, noise

first, second = jax.devices()
points = np.random.default_rng(0).normal(size=(60, 3))
there = jax.device_put(points, second)
for f in (dimension.participation_ratio, dimension.twonn, dimension.levina_bickel,
          dimension.covariance_spectrum, lambda x: core.Gram(core.GradientMatrix(x), 1.0).trace()):
    result = f(there)
    assert result.devices() == {second}, (f, result.devices())
    assert np.allclose(result, f(jax.device_put(points, first)))

def losses(theta, x, y):
    return (x @ theta - y) ** 2

problem = core.Problem(losses, (there, there[:, 0]))
theta = jax.device_put(np.ones(3), second)
for result in (problem.gradient(theta), problem.gradients(theta), problem.hvp(theta, theta),
               noise.gradient_covariance(problem, theta).trace()):
    assert result.devices() == {second}
for mix in (lambda: problem.gradient(jax.device_put(np.ones(3), first)),
            lambda: dimension.participation_ratio(
                there, jax.device_put(points + 1, first), method="unbiased")):
    try:
        mix()
    except ValueError as error:
        assert "device" in str(error)
    else:
        raise AssertionError("devices were mixed")
print("done")
"""


def test_jax_stays_on_the_second_of_two_devices():
    flags = "--xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    done = subprocess.run(
        [sys.executable, "-c", JAX], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "done", done.stderr[-2000:]
