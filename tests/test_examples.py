"""The examples in docstrings run and give what they show."""

import doctest
import importlib
import importlib.util
import pkgutil

import jax
import pytest
import torch

import sgdnoise

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(sgdnoise.__path__, "sgdnoise.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    extra = name.rpartition(".")[2] if name.startswith("sgdnoise.nets.") else ""
    if extra in ("lightning", "transformers") and importlib.util.find_spec(extra) is None:
        pytest.skip(f"{extra} comes with the extra monitoring")
    torch.manual_seed(0)
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    objects = {
        key: value
        for key, value in vars(module).items()
        if getattr(getattr(value, "__code__", None), "co_filename", None) == module.__file__
        or (isinstance(value, type) and value.__module__.startswith("sgdnoise"))
    }
    with jax.enable_x64(False):
        for key, value in objects.items():
            for example in finder.find(value, f"{name}.{key}", module=False, globs=vars(module)):
                failed, _ = doctest.DocTestRunner(verbose=False).run(example)
                assert not failed, f"{name}.{key}"
