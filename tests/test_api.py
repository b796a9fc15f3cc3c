"""The public API: every name can be reached, says where it is found, and explains itself."""

import importlib
import inspect
import re
import subprocess
import sys

import pytest

import sgdnoise

SUBPACKAGES = ("core", "data", "dimension", "dynamics", "lab", "nets", "noise", "theory")
HOMES = [*(f"sgdnoise.{name}" for name in SUBPACKAGES), "sgdnoise.nets.models"]
NAMES = [
    (home, name)
    for home in HOMES
    for name in dir(importlib.import_module(home))
    if not inspect.ismodule(getattr(importlib.import_module(home), name))
]
CALLABLE = [
    (home, name)
    for home, name in NAMES
    if inspect.isroutine(value := getattr(importlib.import_module(home), name))
    or inspect.isclass(value)
]


def in_a_fresh_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_sgdnoise_loads_no_heavy_library():
    loaded = in_a_fresh_python("import sys, sgdnoise; print(*sys.modules)").split()
    assert not {"torch", "jax", "xarray", "matplotlib", "sklearn", "scipy"} & set(loaded)


@pytest.mark.parametrize("name", ["noise", "theory", "dimension", "data", "core", "dynamics"])
def test_a_subpackage_loads_no_library_that_it_does_not_need(name):
    code = f"import sys, sgdnoise; sgdnoise.{name}; print(*sys.modules)"
    loaded = set(in_a_fresh_python(code).split())
    assert not {"torch", "jax", "xarray", "matplotlib", "typer", "sympy"} & loaded


def loaded_by(command):
    """The modules that are loaded when a program ends."""
    code = (
        "import atexit, runpy, sys\n"
        f"atexit.register(lambda: print('loaded', *sys.modules))\n{command}"
    )
    return set(in_a_fresh_python(code).rpartition("loaded ")[2].split())


@pytest.mark.parametrize(
    "command",
    [
        "import sgdnoise.lab",
        "sys.argv[1:] = ['list']; runpy.run_module('simulations', run_name='__main__')",
        "sys.argv[1:] = ['--help']; runpy.run_module('sgdnoise', run_name='__main__')",
    ],
)
def test_a_command_starts_without_the_libraries_of_its_results(command):
    loaded = loaded_by(command)
    assert "sgdnoise.lab" in loaded
    assert not {"torch", "jax", "xarray", "matplotlib", "jinja2", "pandas"} & loaded


def test_the_help_of_a_study_loads_no_library_of_its_figures():
    words = ["run", "linear_networks", "--help"]
    loaded = loaded_by(
        f"sys.argv[1:] = {words}; runpy.run_module('simulations', run_name='__main__')"
    )
    assert "simulations.linear_networks.deep.study" in loaded
    assert not {"torch", "matplotlib", "jinja2"} & loaded


@pytest.mark.parametrize(
    "path",
    [
        "theory.stationary_covariance",
        "dynamics.simulate",
        "nets.models.mlp",
        "lab.Study",
        "simulate",
        "estimate_dimension",
        "gradient_covariance",
    ],
)
def test_names_are_reached_from_the_top_without_further_imports(path):
    assert "True" in in_a_fresh_python(f"import sgdnoise; print(callable(sgdnoise.{path}))")


@pytest.mark.parametrize("home", ["sgdnoise", *HOMES])
def test_dir_lists_exactly_the_public_names(home):
    module = importlib.import_module(home)
    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, name) for name in dir(module))


def test_about_forty_names_are_at_the_top():
    top = [name for name in dir(sgdnoise) if name not in (*SUBPACKAGES, "__version__")]
    assert 35 <= len(top) <= 50
    for name in top:
        home = importlib.import_module(f"sgdnoise.{sgdnoise._HOME[name]}")
        value = getattr(sgdnoise, name)
        assert value is getattr(home, name.replace("estimate_dimension", "estimate"))


@pytest.mark.parametrize(("home", "name"), CALLABLE)
def test_a_public_object_says_where_it_is_found(home, name):
    value = getattr(importlib.import_module(home), name)
    assert value.__module__ == home
    assert value.__name__ == name


@pytest.mark.parametrize(("home", "name"), CALLABLE)
def test_a_public_object_has_a_docstring_that_begins_with_a_sentence(home, name):
    text = inspect.getdoc(getattr(importlib.import_module(home), name)) or ""
    assert not text.startswith(f"{name}("), "it needs a docstring of its own, not a NamedTuple's"
    summary = " ".join(text.split("\n\n")[0].split())
    assert re.match(r"[A-Z`|]", summary), summary
    assert re.search(r"[.:)]( |$)", summary), summary


def test_no_public_function_has_the_name_of_a_module():
    for home in HOMES:
        module = importlib.import_module(home)
        if not hasattr(module, "__path__"):
            continue
        for name in dir(module):
            if not inspect.ismodule(getattr(module, name)):
                assert importlib.util.find_spec(f"{home}.{name}") is None


def test_what_is_not_there_is_an_attribute_error():
    for home in ("sgdnoise", "sgdnoise.dynamics", "sgdnoise.theory"):
        with pytest.raises(AttributeError, match="has no attribute 'magic'"):
            _ = importlib.import_module(home).magic


PROBLEM = "import numpy as np, sgdnoise; sgdnoise.Problem(len, (np.ones(2),))"
MISSING = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
try:
    {code}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("absent", "code", "extra"),
    [
        ("torch", "import sgdnoise; sgdnoise.nets", "torch"),
        ("jax", "import sgdnoise; sgdnoise.dynamics.simulate", "jax"),
        ("xarray", "import sgdnoise; sgdnoise.lab", "lab"),
        ("matplotlib", "import sgdnoise; sgdnoise.lab", "lab"),
        ("typer", "import sgdnoise; sgdnoise.lab", "lab"),
        ("jax", PROBLEM, "jax"),
        ("pooch", "import sgdnoise; sgdnoise.data.mnist()", "downloads"),
    ],
)
def test_a_missing_extra_is_named_in_one_sentence(absent, code, extra):
    said = in_a_fresh_python(MISSING.format(absent=[absent], code=code))
    assert f"{absent} is not installed" in said
    assert f"pip install 'sgdnoise[{extra}]'" in said


def test_the_base_works_without_any_extra():
    absent = ["torch", "jax", "xarray", "matplotlib", "typer", "rich", "jinja2", "h5netcdf"]
    code = (
        "import numpy as np, sgdnoise; "
        "print(sgdnoise.twonn(np.random.default_rng(0).normal(size=(200, 2))), "
        "sgdnoise.theory, sgdnoise.noise, sgdnoise.dynamics.sgd, sgdnoise.IntrinsicDimension)"
    )
    said = in_a_fresh_python(MISSING.format(absent=absent, code=code))
    assert "not installed" not in said
    assert "IntrinsicDimension" in said
