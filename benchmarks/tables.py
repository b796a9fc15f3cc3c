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
LINEAR, DEEP = (20, 50, 10), (20, 32, 32, 10)


def _clouds():
    for n, width, quick in ((1000, 20, True), (2000, 784, True), (5000, 20, False)):
        title = f"Dimension of {n:,} normal points in {width} coordinates"
        arguments = n, width
        yield f"dimension-{n}x{width}", Table(title, SEARCH, "dimension", "cloud", arguments, quick)


def _networks():
    titles = {
        "mlp": ("an MLP 784-512-512-10, n = 2048", True),
        "convnet": ("a network of three convolutions, n = 512", False),
        "transformer": ("a language model of two layers, n = 512", False),
        "resnet": ("ResNet-20 with norms over groups of 8 channels, n = 64", False),
        "frozen": ("ResNet-20 with frozen batch norm, n = 64", True),
        "gpt2": ("a block of GPT-2's size, n = 16", False),
    }
    for name, (title, quick) in titles.items():
        heading = f"Gradient-noise covariance of {title}"
        yield f"noise-{name}", Table(heading, PASS, "covariance", "network", (name,), quick)


def _chains():
    for d, quick in ((10, True), (100, False)):
        title = f"4096 chains of an Ornstein-Uhlenbeck process, d = {d}"
        yield f"chains-ou{d}", Table(title, STEP, "chains", "process", (d,), quick)
    for widths, kind, quick in (
        (LINEAR, "SGD", True),
        (DEEP, "SGD", False),
        (LINEAR, "equation", False),
        (DEEP, "equation", False),
    ):
        label = "linear" if widths == LINEAR else "tanh"
        title = f"256 chains of {kind} of {label} networks {'-'.join(map(str, widths))}"
        name = f"chains-{label}-{kind.lower()}"
        yield name, Table(title, STEP, "chains", "networks", (widths, kind), quick)


def _watching():
    for name, quick in (("mlp", True), ("convnet", False)):
        title = f"Watching and walking a small {name}"
        yield f"watching-{name}", Table(title, TRAINING, "watching", "training", (name,), quick)


TABLES: dict[str, Table] = {
    **dict(_clouds()),
    **dict(_networks()),
    **dict(_chains()),
    **dict(_watching()),
    "commands": Table("Commands and imports", IMPORT, "commands", "commands", (), True),
    "sweep": Table(
        "200 points of 1 ms, 20 to a task, in one thread",
        "a thread pool that stores nothing",
        "commands",
        "sweeping",
    ),
    "scaling-points": Table(
        "Exponents of time in the number of points n, D = 20", SEARCH, "scaling", "points", (), True
    ),
    "scaling-parameters": Table(
        "Exponents of time in the number of parameters p, n = 256",
        "a product of two matrices of size 512 in torch",
        "scaling",
        "parameters",
        (),
        True,
    ),
    "scaling-chains": Table(
        "Exponents of time in the number of chains",
        "a product of two matrices of size 512 in numpy",
        "scaling",
        "chains",
        (),
        True,
    ),
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
