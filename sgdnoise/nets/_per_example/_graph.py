"""The graph of autograd behind the losses: which uses of parameters were not recorded."""

from typing import Any, NamedTuple

import torch

# Operations that treat each example by itself, whatever the values are.  With others, such as
# indexing, the rows of a tensor may belong to other examples than in the trial.
BATCHWISE = set(
    """
    Abs AdaptiveAvgPool1D AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool1D AdaptiveMaxPool2D
    Add Addcmul Addmm Alias Amax Amin AvgPool2D AvgPool3D Baddbmm BinaryCrossEntropy
    BinaryCrossEntropyWithLogits Bmm Cat Celu Clamp ClampMax ClampMin Clone ConstantPadNd
    Convolution ConvolutionOverrideable Copy Cos Cumsum Div Elu Embedding Erf Exp Expand Expm1
    FusedRmsNorm Gelu Glu Hardsigmoid Hardswish Hardtanh HuberLoss LeakyRelu Lerp Linear Log Log1P
    LogSigmoid LogSoftmax Logsumexp MaskedFill Max MaxPool2DWithIndices MaxPool3DWithIndices
    Maximum Mean Min Minimum Mish MkldnnConvolution MkldnnLinear Mm MseLoss Mul Mv Mvlgamma
    NativeBatchNorm NativeGroupNorm NativeLayerNorm Neg NllLoss NllLoss2D Norm Permute Pow
    PreluKernel Reciprocal ReflectionPad1D ReflectionPad2D Relu Renorm ReplicationPad2D
    ReshapeAlias Rsqrt Rsub Select Sigmoid Silu Sin Slice SmoothL1Loss Softmax Softplus Split
    SplitWithSizes Sqrt Squeeze Stack Std Sub Sum T Tanh Threshold ToCopy Transpose Tril Triu
    Unbind Unfold UnsafeView Unsqueeze UpsampleBilinear2D UpsampleNearest2D Var View Where
    LinalgVectorNorm ScaledDotProductEfficientAttention ScaledDotProductFlashAttention
    ScaledDotProductFlashAttentionForCpu
    """.upper().split()
)


# Of these, the ones that sum or normalise along axes.
REDUCTIONS = {"CUMSUM", "LOGSOFTMAX", "MEAN", "SOFTMAX", "SUM"}


# Functions that look at many numbers at once: along all axes, or else the last, if none is named.
OVER_ALL = {
    *("all", "amax", "amin", "any", "count_nonzero", "logsumexp", "max", "mean", "median", "min"),
    *("norm", "prod", "quantile", "std", "sum", "var"),
}
OVER_LAST = {"argsort", "cumsum", "kthvalue", "softmax", "log_softmax", "sort", "topk"}
# Reads of values by Python, on which the path of the network may depend.
NUMBERED = {"kthvalue", "norm", "quantile", "topk"}  # whose second argument is no axis
READS = {"__bool__", "__float__", "__index__", "__int__", "item", "numpy", "tolist"}


class Uses(NamedTuple):
    """What the graph of the losses holds besides the recorded calls.

    parameters: names of those that are used in another way too.
    batchwise: whether all operations treat each example by itself.
    size: the number of operations; a loop over the examples has more for more of them.
    """

    parameters: set
    batchwise: bool
    size: int


def trace_uses(losses, sources: dict, leaves: dict, originals: dict) -> Uses:
    """The uses of parameters that were not recorded, in the graph of the losses (n,).

    sources: node of the output of a recorded call -> nodes of its arguments that are no parameter.
    originals: id -> name of the parameters of the network, which have been replaced by leaves.
    Raises ValueError if the losses use one of the originals.
    """
    names = {id(leaf): name for name, leaf in leaves.items()}
    parameters, batchwise, size = set(), True, 0
    for node, variable in _nodes(losses.grad_fn, sources):
        size += 1
        if id(variable) in originals:
            raise ValueError(
                f"the losses use {originals[id(variable)]} by a reference of their own, which "
                "cannot be replaced; let the loss read net.parameters() when it is called"
            )
        if id(variable) in names:
            parameters.add(names[id(variable)])
        elif variable is None and node not in sources:
            batchwise = batchwise and kind_of(node) in BATCHWISE
            batchwise = batchwise and not _crosses(node, len(losses))
    return Uses(parameters, batchwise, size)


def leaves_of(tensor, leaves: dict) -> set:
    """The names of the leaves from which a tensor is computed."""
    names = {id(leaf): name for name, leaf in leaves.items()}
    found = (names.get(id(variable)) for _, variable in _nodes(tensor.grad_fn, {}))
    return {name for name in found if name is not None}


def _nodes(root, sources: dict):
    """Each node of a graph with its variable, if it is a leaf.

    At the output of a recorded call, the graph is followed through its sources alone.
    """
    pending, visited = [root], set()
    while pending:
        node: Any = pending.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        yield node, getattr(node, "variable", None)
        pending += sources[node] if node in sources else [after for after, _ in node.next_functions]


def _crosses(node, n: int) -> bool:
    """Whether an operation cuts, joins or sums an axis along which n examples may lie.

    The places of its cuts may depend on the examples, and a sum over them may reach one of them.
    """
    kind = kind_of(node)
    if kind in REDUCTIONS:
        return _reduces(node, n)
    if kind == "UNBIND":
        shape = (len(node._input_metadata), 0)
        dim = 0
    elif kind in ("SLICE", "SELECT", "SPLIT", "SPLITWITHSIZES"):
        shape, dim = node._saved_self_sym_sizes, node._saved_dim
    elif kind in ("CAT", "STACK"):
        shape, dim = node._input_metadata[0].shape, node._saved_dim
    else:
        return False
    return _may_hold(shape, dim, n)


def _reduces(node, n):
    dims = getattr(node, "_saved_dim", None)
    if dims is None or dims == ():  # over everything
        return n > 1
    shape = getattr(node, "_saved_self_sym_sizes", node._input_metadata[0].shape)
    dims = dims if isinstance(dims, tuple) else (dims,)
    return any(_may_hold(shape, dim, n) for dim in dims)


def _may_hold(shape, dim, n):
    """Whether n examples may lie along an axis, which is not the last one of several."""
    dim = dim - 2**64 if dim >= 2**63 else dim  # negative numbers are stored without their sign
    if not -len(shape) <= dim < len(shape):
        return False
    last = dim in (-1, len(shape) - 1) and len(shape) > 1  # features, such as three projections
    return n > 1 and not last and int(shape[dim]) % n == 0


def reads_across(func, args, kwargs, n: int) -> bool:
    """Whether a call looks at several of n examples at once, or reads values into Python.

    The graph of autograd does not show what happens to tensors without a gradient.
    """
    name = getattr(func, "__name__", "")
    if name in READS:
        return n > 1
    if name not in OVER_ALL and name not in OVER_LAST:
        return False
    tensor = args[0] if args else kwargs.get("input")
    if not torch.is_tensor(tensor) or not tensor.ndim:
        return False
    given = [kwargs[key] for key in ("dim", "axis") if key in kwargs]
    given += [a for a in args[1:2] if isinstance(a, (int, tuple, list)) and name not in NUMBERED]
    dims = given[0] if given else None
    if dims is None:
        dims = range(tensor.ndim) if name in OVER_ALL else (-1,)
    dims = (dims,) if isinstance(dims, int) else dims
    return any(_may_hold(tensor.shape, dim, n) for dim in dims)


def kind_of(node) -> str:
    """The name of an operation of torch: ADDMM for AddmmBackward0."""
    if isinstance(node, torch._C._FunctionBase):  # written in Python, and named by its author
        return ""
    return node.name().rstrip("0123456789").removesuffix("Backward").upper()
