"""What other ways to Core ML take, by ONNX operator; none of them was run here.

onnx2coreml     the operators in the README of version 1.0; `Inverse` is of com.microsoft
coremltools 5   `_ONNX_NODE_REGISTRY_ND` of coremltools/converters/onnx/_operators_nd.py, the last with ONNX: opsets up
                to 10, to neural networks, not to ML programs
PyTorch         the operator of PyTorch that computes the same and that coremltools 9 registers (`register_torch_op`
                in coremltools/converters/mil/frontend/torch): what a model reaches by its PyTorch source. A test
                looks each up in the installed coremltools.
"""

from __future__ import annotations

from types import MappingProxyType

ONNX2COREML = frozenset(
    {
        "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Log", "Abs", "Erf", "Reciprocal", "Neg", "Floor",
        "Ceil", "Round", "Sign", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Atanh", "Min",
        "Max", "Clip", "Mod", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor",
        "Not", "IsNaN", "Where", "Relu", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Gelu", "Softmax", "LogSoftmax",
        "Softplus", "Elu", "HardSigmoid", "HardSwish", "Conv", "ConvTranspose", "MaxPool", "AveragePool",
        "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "LayerNormalization", "InstanceNormalization",
        "GroupNormalization", "MatMul", "Gemm", "Inverse", "Reshape", "Transpose", "Flatten", "Squeeze",
        "Unsqueeze", "Concat", "Split", "Pad", "Cast", "Identity", "DepthToSpace", "GridSample", "Resize",
        "Upsample", "Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements", "NonZero", "Slice",
        "Expand", "Tile", "Shape", "ConstantOfShape", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin",
        "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ArgMax",
        "ArgMin", "TopK", "LSTM",
    }
)  # fmt: skip

COREMLTOOLS_5 = frozenset(
    {
        "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AveragePool",
        "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose",
        "Cos", "Cosh", "DepthToSpace", "Div", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather",
        "Gemm", "Greater", "GRU", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "Identity",
        "InstanceNormalization", "LeakyRelu", "Log", "LogSoftmax", "LRN", "Less", "LSTM", "MatMul", "Max", "MaxPool",
        "Mean", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Pad", "Pow", "PRelu", "RandomNormal",
        "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
        "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu",
        "Reshape", "Resize", "ReverseSequence", "RoiAlign", "Round", "Scatter", "Selu", "Sigmoid", "Sign", "Size",
        "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Shape", "Sqrt", "Squeeze", "Sub", "Sum",
        "Tanh", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Unsqueeze", "Upsample", "Xor", "Where",
    }
)  # fmt: skip

PYTORCH = MappingProxyType(
    {
        "Elu": "elu", "Gelu": "gelu", "HardSigmoid": "hardsigmoid", "HardSwish": "hardswish",
        "LeakyRelu": "leaky_relu", "LogSoftmax": "log_softmax", "Mish": "mish", "PRelu": "prelu", "Relu": "relu",
        "Selu": "selu", "Sigmoid": "sigmoid", "Softmax": "softmax", "Softplus": "softplus", "Softsign": "softsign",
        "Swish": "silu", "ThresholdedRelu": "threshold", "Dropout": "dropout",
        "Attention": "scaled_dot_product_attention", "If": "if", "Loop": "loop", "Conv": "_convolution",
        "ConvTranspose": "conv_transpose2d.input", "Pad": "pad", "Slice": "slice", "Abs": "abs", "Acos": "acos",
        "Acosh": "acosh", "Add": "add", "And": "logical_and", "Asin": "asin", "Asinh": "asinh", "Atan": "atan",
        "Atanh": "atanh", "Cast": "to", "CastLike": "type_as", "Ceil": "ceil", "Clip": "clamp", "Cos": "cos",
        "Cosh": "cosh", "Div": "div", "Equal": "eq", "Erf": "erf", "Exp": "exp", "Floor": "floor", "Greater": "gt",
        "GreaterOrEqual": "ge", "IsNaN": "isnan", "Less": "lt", "LessOrEqual": "le", "Log": "log", "Max": "maximum",
        "Min": "minimum", "Mod": "remainder", "Mul": "mul", "Neg": "neg", "Not": "logical_not", "Or": "logical_or",
        "Pow": "pow", "Reciprocal": "reciprocal", "Round": "round", "Sign": "sign", "Sin": "sin", "Sinh": "sinh",
        "Sqrt": "sqrt", "Sub": "sub", "Tan": "tan", "Tanh": "tanh", "Where": "where", "Xor": "logical_xor",
        "CumSum": "cumsum", "Gather": "index_select", "GatherElements": "gather", "GatherND": "index",
        "NonZero": "nonzero", "OneHot": "one_hot", "ScatterElements": "scatter", "ScatterND": "index_put",
        "TopK": "topk", "Einsum": "einsum", "Gemm": "addmm", "MatMul": "matmul", "BatchNormalization": "batch_norm",
        "GroupNormalization": "group_norm", "InstanceNormalization": "instance_norm",
        "LayerNormalization": "layer_norm", "RMSNormalization": "rms_norm", "AveragePool": "avg_pool2d",
        "GlobalAveragePool": "adaptive_avg_pool2d", "GlobalMaxPool": "adaptive_max_pool2d", "MaxPool": "max_pool2d",
        "DequantizeLinear": "dequantize", "QuantizeLinear": "quantize_per_tensor", "GRU": "gru", "LSTM": "lstm",
        "RNN": "rnn_tanh", "ArgMax": "argmax", "ArgMin": "argmin", "ReduceL1": "linalg_vector_norm",
        "ReduceL2": "linalg_vector_norm", "ReduceLogSumExp": "logsumexp", "ReduceMax": "amax", "ReduceMean": "mean",
        "ReduceMin": "amin", "ReduceSum": "sum", "GridSample": "grid_sampler", "Resize": "upsample_bilinear2d",
        "Upsample": "upsample_nearest2d", "Concat": "cat", "Constant": "constant", "ConstantOfShape": "full",
        "DepthToSpace": "pixel_shuffle", "Expand": "expand", "EyeLike": "eye", "Flatten": "flatten",
        "Identity": "noop", "Range": "arange", "Reshape": "reshape", "Shape": "_shape_as_tensor", "Size": "numel",
        "SpaceToDepth": "pixel_unshuffle", "Split": "split", "Squeeze": "squeeze", "Tile": "repeat",
        "Transpose": "permute", "Trilu": "triu", "Unsqueeze": "unsqueeze",
    }
)  # fmt: skip
