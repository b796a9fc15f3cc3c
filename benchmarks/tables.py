"""The tables: a title, the unit of time, and the function that makes their calls."""

from importlib import import_module
from typing import NamedTuple

__all__ = ["PEERS", "TABLES", "TRACKED", "Table"]


class Table(NamedTuple):
    """What is measured in one process: made by a function of a module of this folder."""

    title: str
    unit: str
    module: str
    function: str
    arguments: tuple = ()
    quick: bool = False
    note: str = ""

    def make(self):
        """The task; this imports the packages that it needs."""
        return getattr(import_module(f"benchmarks.{self.module}"), self.function)(*self.arguments)


# package -> the name of its distribution
PEERS = {
    "scikit-dimension": "scikit-dimension",
    "DADApy": "dadapy",
    "faiss": "faiss-cpu",
    "BackPACK": "backpack-for-pytorch",
    "curvlinops": "curvlinops-for-pytorch",
    "nngeometry": "nngeometry",
    "diffrax": "diffrax",
    "torchsde": "torchsde",
    "blackjax": "blackjax",
}
SEARCH = "an exact search for 20 neighbours by scikit-learn (brute force, float32)"
PASS = "a forward and backward pass over the same examples, at most 256 at a time"
STEP = "a step of one chain by hand in numpy (SFC64 where it draws normal numbers)"
IMPORT = '`python -c "import numpy, scipy"`'
TRAINING = "a step of a training loop by hand in torch"
CLOUDS = """Ours are in float64 and exact; the searches of torch and faiss are in float32, and may
order neighbours at nearly equal distances otherwise. scikit-dimension takes its own default number
of neighbours where it is not asked for 20. The times of DADApy hold its search."""
NOISE = """sgdnoise: from the network to the answer, centred and exact. Set up: from what the layers
have seen, which is kept. torch.func by hand: jvp and vjp for products, a vmap of grad for the rest,
centred, and scipy's eigsh for the top 10. curvlinops: the empirical Fisher, not centred, and eigsh.
BackPACK: sums of squares, centred by the gradient that comes with them. nngeometry: hooks, not
centred."""
NETS = """sgdnoise: networks of dense layers by `dynamics.mlp_problem`. Any loss: the same chains by
automatic differentiation. By hand in numpy and torch: batched matrix products and a backward pass
by hand; in jax: a scan and vmap over chains. diffrax and torchsde: drift and diffusion apart;
blackjax: sgld at temperature zero."""
PROCESSES = """jax by hand: a scan and vmap over chains with jax.random; torch by hand: a loop over
one tensor; diffrax: all chains as one state; torchsde: Euler steps with diffusion products."""
TRAININGS = """Batches of 64 images of 8 x 8 pixels, and 256 held-out examples for a watch of all
layers. A row of steps is 1 where it costs nothing; a measurement is in steps."""
EXPONENTS = """The exponent is the slope of a line through the logarithms of all rounds, with its
standard error. It holds for these sizes; fixed costs make it smaller than that of large sizes."""
LINEAR, DEEP = (20, 50, 10), (20, 32, 32, 10)


def _clouds():
    for n, width, quick in ((1000, 20, True), (2000, 784, True), (5000, 20, False)):
        title = f"Dimension of {n:,} normal points in {width} coordinates"
        arguments = n, width
        table = Table(title, SEARCH, "dimension", "cloud", arguments, quick, CLOUDS)
        yield f"dimension-{n}x{width}", table


def _networks():
    titles = {
        "mlp": ("an MLP 784-512-512-10, n = 2048", True),
        "convnet": ("a network of three convolutions, n = 512", False),
        "transformer": ("a language model of two layers, n = 512", False),
        "resnet": ("ResNet-20 with norms over groups of 8 channels, n = 64", False),
        "frozen": ("ResNet-20 with frozen batch norm, n = 64", False),
        "gpt2": ("a block of GPT-2's size, n = 16", False),
    }
    for name, (title, quick) in titles.items():
        heading = f"Gradient-noise covariance of {title}"
        yield f"noise-{name}", Table(heading, PASS, "covariance", "network", (name,), quick, NOISE)


def _chains():
    for d, quick in ((10, True), (100, False)):
        title = f"4096 chains of an Ornstein-Uhlenbeck process, d = {d}"
        yield f"chains-ou{d}", Table(title, STEP, "chains", "process", (d,), quick, PROCESSES)
    for widths, kind, quick in (
        (LINEAR, "SGD", True),
        (DEEP, "SGD", False),
        (LINEAR, "equation", False),
        (DEEP, "equation", False),
    ):
        label = "linear" if widths == LINEAR else "tanh"
        title = f"256 chains of {kind} of {label} networks {'-'.join(map(str, widths))}"
        name = f"chains-{label}-{kind.lower()}"
        yield name, Table(title, STEP, "chains", "networks", (widths, kind), quick, NETS)


def _watching():
    for name, quick in (("mlp", True), ("convnet", False)):
        title = f"Watching and walking a small {name}"
        yield (
            f"watching-{name}",
            Table(title, TRAINING, "watching", "training", (name,), quick, TRAININGS),
        )


def _scaling():
    product = "a product of two matrices of size 512 in"
    for name, title, unit in (
        ("points", "the number of points n, D = 20", SEARCH),
        ("parameters", "the number of parameters p, n = 256", f"{product} torch"),
        ("chains", "the number of chains", f"{product} numpy"),
    ):
        heading = f"Exponents of time in {title}"
        yield f"scaling-{name}", Table(heading, unit, "scaling", name, (), True, EXPONENTS)


TABLES: dict[str, Table] = {
    **dict(_clouds()),
    **dict(_networks()),
    **dict(_chains()),
    **dict(_watching()),
    "commands": Table(
        "The start of commands, and imports", IMPORT, "commands", "commands", (), True
    ),
    "long-commands": Table("Commands that compute", IMPORT, "commands", "long_commands"),
    "sweep": Table(
        "200 points of 1 ms, 20 to a task, in one thread",
        "a thread pool that stores nothing",
        "commands",
        "sweeping",
    ),
    **dict(_scaling()),
}

# ten ratios whose course over commits is recorded: (table, what)
TRACKED = (
    ("dimension-1000x20", "twonn"),
    ("dimension-1000x20", "levina_bickel"),
    ("dimension-1000x20", "twonn with its error"),
    ("dimension-2000x784", "estimate with its error"),
    ("noise-mlp", "trace"),
    ("noise-mlp", "product"),
    ("noise-mlp", "spectrum"),
    ("chains-ou10", "a step"),
    ("chains-linear-sgd", "a step"),
    ("watching-mlp", "walk, a step"),
)
