"""The examples in docstrings run and give what they show."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil

import hostile_calls
import jax
import pytest
import torch

import sgdnoise

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(sgdnoise.__path__, "sgdnoise.")
    if not module.name.endswith("__main__")
)
NOT_RUN = {  # of public objects, what an example shows but cannot run, and why
    "data.faces": "scikit-image, which ships the photographs, is not among the packages of tests",
    "dimension.calibrated": "the simulation of balls takes 10 seconds",
    "nets.models.pretrained_resnet": "the checkpoint is fetched from the network",
}
PUBLIC = dict(hostile_calls.public_objects([*hostile_calls.HOMES, "nets.models", "sklearn"]))


def written_in(value, module):
    """Whether a function is of this module, also if it is decorated, or a class is ours."""
    if isinstance(value, type):
        return value.__module__.startswith("sgdnoise")
    code = getattr(inspect.unwrap(value) if callable(value) else value, "__code__", None)
    return getattr(code, "co_filename", None) == module.__file__


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_function_or_class_has_an_example(name):
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(PUBLIC[name]) or "")
    assert examples, f"{name} needs an example in its docstring"
    skipped = [example for example in examples if doctest.SKIP in example.options]
    assert bool(skipped) == (name in NOT_RUN)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    extra = name.rpartition(".")[2] if name.startswith("sgdnoise.nets.") else ""
    if extra in ("lightning", "transformers") and importlib.util.find_spec(extra) is None:
        pytest.skip(f"{extra} comes with the extra monitoring")
    torch.manual_seed(0)
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    objects = {key: value for key, value in vars(module).items() if written_in(value, module)}
    with jax.enable_x64(False):
        for key, value in objects.items():
            for example in finder.find(value, f"{name}.{key}", module=False, globs=vars(module)):
                failed, _ = doctest.DocTestRunner(verbose=False).run(example)
                assert not failed, f"{name}.{key}"
