"""Attention, by one operator where iOS 18 has it, else by products and softmax.

    Attention (ONNX, opset 23)      Y = softmax(scale * Q K' + mask) V, heads as an axis or packed into the last
    MultiHeadAttention              com.microsoft, packed heads, no past
    GroupQueryAttention             com.microsoft, each key head serves several query heads

`scaled_dot_product_attention` scales by 1 / sqrt(d): Q is scaled first where ONNX says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qcompiler.backends.coreml.lower.scope import MASK, Refused, Scope, Var, type_of
from qcompiler.backends.coreml.lower.shape import kept
from qcompiler.backends.coreml.lower.table import lowers


def heads(s: Scope, x: Var, count: int) -> Var:
    """(batch, length, count * d) as (batch, count, length, d)."""
    batch, length, wide = (int(d) for d in x.shape)
    return s.transpose(s.reshape(x, [batch, length, count, wide // count]), [0, 2, 1, 3])


def joined(s: Scope, x: Var) -> Var:
    """(batch, count, length, d) as (batch, length, count * d)."""
    batch, count, length, d = (int(n) for n in x.shape)
    return s.reshape(s.transpose(x, [0, 2, 1, 3]), [batch, length, count * d])


def repeated(s: Scope, x: Var, groups: int) -> Var:
    """Each key head for `groups` query heads."""
    if groups == 1:
        return x
    batch, count, length, d = (int(n) for n in x.shape)
    wide = s.op("tile", x=s.reshape(x, [batch, count, 1, length * d]), reps=[1, 1, groups, 1])
    return s.reshape(wide, [batch, count * groups, length, d])


def attend(s: Scope, q: Var, k: Var, v: Var, mask: Var | None, scale: float | None) -> Var:
    """softmax(scale * Q K' + mask) V"""
    d = int(q.shape[-1])
    scale = 1 / math.sqrt(d) if scale is None else scale
    if s.os >= 18 and s.program.fused:
        factor = scale * math.sqrt(d)
        q = q if abs(factor - 1) < 1e-7 else s.op("mul", x=q, y=s.scalar(factor, q))
        return s.op("scaled_dot_product_attention", query=q, key=k, value=v, attn_mask=mask)
    logits = s.op("matmul", x=s.op("mul", x=q, y=s.scalar(scale, q)), y=k, transpose_x=False, transpose_y=True)
    if mask is not None:
        logits = s.op("add", x=logits, y=mask)
    return s.op("matmul", x=s.op("softmax", x=logits, axis=-1), y=v, transpose_x=False, transpose_y=False)


def additive(s: Scope, mask: Var, like: Var) -> Var:
    """A bool mask as 0 and a very negative number."""
    if type_of(mask) != "bool":
        return mask
    open_ = s.cast(mask, type_of(like))
    return s.op("mul", x=s.op("sub", x=open_, y=s.scalar(1, like)), y=s.scalar(-MASK, like))


def causal(rows: int, columns: int, offset: int, window: int = -1) -> np.ndarray:
    """0 where a query may look, else a very negative number."""
    ahead = np.arange(columns)[None] - np.arange(rows)[:, None] - offset
    closed = ahead > 0
    if window > 0:
        closed |= ahead <= -window
    return np.where(closed, np.float32(MASK), np.float32(0))


ATTRIBUTES = {
    "is_causal", "kv_num_heads", "q_num_heads", "qk_matmul_output_mode", "scale", "softcap", "softmax_precision",
}  # fmt: skip


@lowers("Attention", to="scaled_dot_product_attention, matmul, softmax",
        limits="softcap, nonpad_kv_seqlen, qk_matmul_output, open shapes")  # fmt: skip
def attention(s: Scope) -> Any:
    """Heads may be packed into the last axis; a past is put before keys and values."""
    unknown = set(s.node.attrs) - ATTRIBUTES
    if unknown:
        raise Refused(f"attribute {min(unknown)}")
    if s.attr("softcap", 0.0) or s.has(6) or (len(s.node.outputs) > 3 and s.node.outputs[3].name):
        raise Refused("softcap, lengths, or the product as a result")
    q, k, v = s.x(0), s.x(1), s.x(2)
    packed = s.rank() == 3
    if packed:
        queries, keys = int(s.attr("q_num_heads")), int(s.attr("kv_num_heads"))
        q, k, v = heads(s, q, queries), heads(s, k, keys), heads(s, v, keys)
    past = 0
    if s.has(4):
        past = int(s.x(4).shape[2])
        k = s.op("concat", values=[s.x(4), k], axis=2)
        v = s.op("concat", values=[s.x(5), v], axis=2)
    groups = int(q.shape[1]) // int(k.shape[1])
    mask = whole_mask(s, s.x(3), k) if s.has(3) else None
    shade = causal(int(q.shape[2]), int(k.shape[2]), past) if s.attr("is_causal", 0) else None
    some = None
    if mask is not None and type_of(mask) == "bool":
        if shade is not None:
            mask, shade = s.op("logical_and", x=mask, y=s.constant((shade == 0)[None, None])), None
        some = s.op("reduce_max", x=s.cast(mask, type_of(q)), axes=[-1], keep_dims=True)
        mask = additive(s, mask, q)
    if shade is not None:
        dark = s.constant(shade[None, None].astype(np.float16 if type_of(q) == "fp16" else np.float32))
        mask = dark if mask is None else s.op("maximum", x=s.op("add", x=mask, y=dark), y=s.scalar(MASK, q))
    scale = s.attr("scale")
    found = attend(s, q, repeated(s, k, groups), repeated(s, v, groups), mask, None if scale is None else float(scale))
    if some is not None:  # a query that may look nowhere gives 0
        found = s.op("mul", x=found, y=some)
    return [joined(s, found) if packed else found, k, v][: len(s.node.outputs)]


def whole_mask(s: Scope, mask: Var, k: Var) -> Var:
    """A mask in rank 4; one that ends before the keys leaves the others closed."""
    rank = int(mask.rank)
    if rank < 4:
        mask = kept(s, "reshape", mask, shape=np.array([1] * (4 - rank) + [int(d) for d in mask.shape], np.int32))
    lacking = int(k.shape[2]) - int(mask.shape[-1])
    if lacking > 0 and int(mask.shape[-1]) > 1:
        pad = np.array([0, 0, 0, 0, 0, 0, 0, lacking], np.int32)
        if type_of(mask) == "bool":
            numbers = s.op("pad", x=s.cast(mask, "fp32"), pad=pad, mode="constant", constant_val=np.float32(0))
            return s.cast(numbers, "bool")
        mask = s.op("pad", x=mask, pad=pad, mode="constant", constant_val=s.scalar(MASK, mask))
    return mask


@lowers("MultiHeadAttention", to="scaled_dot_product_attention, matmul, softmax", domain="com.microsoft",
        limits="packed QKV, key padding masks, a past")  # fmt: skip
def multi_head(s: Scope) -> Any:
    """Q, K and V apart, an optional bias of them and of the product."""
    if s.rank() != 3 or not (s.has(1) and s.has(2)) or s.has(4) or s.has(6) or len(s.node.outputs) > 1:
        raise Refused("packed QKV, a key padding mask, a past, or present as a result")
    count = int(s.attr("num_heads"))
    q, k, v = s.x(0), s.x(1), s.x(2)
    if s.has(3):
        bias, wide = s.need(3, "the bias"), int(q.shape[-1])
        cuts = (bias[:wide], bias[wide : 2 * wide], bias[2 * wide :])
        q, k, v = (s.op("add", x=x, y=s.constant(b)) for x, b in zip((q, k, v), cuts, strict=True))
    q, k, v = (heads(s, x, count) if int(x.rank) == 3 else x for x in (q, k, v))
    mask = s.optional(5)
    if s.attr("unidirectional", 0):
        shade = s.constant(causal(int(q.shape[2]), int(k.shape[2]), 0))
        mask = shade if mask is None else s.op("add", x=mask, y=shade)
    scale = s.attr("scale")
    return joined(s, attend(s, q, k, v, mask, float(scale) if scale else None))


@lowers("GroupQueryAttention", to="scaled_dot_product_attention, matmul, softmax", domain="com.microsoft",
        limits="a past, packed QKV, rotary embedding inside, softcap, lengths other than the whole")  # fmt: skip
def group_query(s: Scope) -> Any:
    """Causal; present keys and values are the new ones."""
    if not (s.has(1) and s.has(2)) or s.attr("do_rotary", 0) or s.attr("softcap", 0.0):
        raise Refused("packed QKV, rotary embedding inside, or softcap")
    if s.has(3) and int(np.prod([int(d) for d in s.x(3).shape])) and int(s.x(3).shape[2]):
        raise Refused("a past: rewrite the model to take keys and values in whole")
    lengths = s.need(5, "the lengths")
    q = heads(s, s.x(0), int(s.attr("num_heads")))
    if (lengths.reshape(-1) != int(q.shape[2]) - 1).any():
        raise Refused("lengths other than the whole")
    keys = int(s.attr("kv_num_heads"))
    k, v = heads(s, s.x(1), keys), heads(s, s.x(2), keys)
    groups, scale = int(q.shape[1]) // keys, s.attr("scale")
    shade = causal(int(q.shape[2]), int(k.shape[2]), 0, int(s.attr("local_window_size", -1)))
    mask = s.constant(shade[None, None])
    found = attend(
        s, q, repeated(s, k, groups), repeated(s, v, groups), mask, float(scale) if scale else None
    )  # fmt: skip
    return [joined(s, found), k, v][: len(s.node.outputs)]


@lowers("RotaryEmbedding", to="gather, mul, add, concat", limits="open shapes")
def rotary(s: Scope) -> Var:
    """Each pair of values turned by the angle of its position."""
    x, turned = s.x(0), False
    if s.rank() == 3:
        x, turned = heads(s, x, int(s.attr("num_heads"))), True
    cos, sin = s.x(1), s.x(2)
    if s.has(3):
        cos, sin = (s.op("gather", x=c, indices=s.x(3), axis=0) for c in (cos, sin))
    cos, sin = (s.op("expand_dims", x=c, axes=[1]) for c in (cos, sin))
    width = int(x.shape[-1])
    dim = int(s.attr("rotary_embedding_dim", 0)) or width
    rest = None
    if dim < width:
        x, rest = s.op("split", x=x, split_sizes=[dim, width - dim], axis=3)
    if s.attr("interleaved", 0):
        pairs = [int(d) for d in x.shape[:3]] + [dim // 2, 2]
        flat = s.reshape(x, pairs)
        a, b = (s.op("squeeze", x=p, axes=[4]) for p in s.op("split", x=flat, num_splits=2, axis=4))
    else:
        a, b = s.op("split", x=x, num_splits=2, axis=3)
    real = s.op("sub", x=s.op("mul", x=a, y=cos), y=s.op("mul", x=b, y=sin))
    imaginary = s.op("add", x=s.op("mul", x=a, y=sin), y=s.op("mul", x=b, y=cos))
    if s.attr("interleaved", 0):
        both = s.op("stack", values=[real, imaginary], axis=4)
        found = s.reshape(both, [int(d) for d in x.shape])
    else:
        found = s.op("concat", values=[real, imaginary], axis=3)
    if rest is not None:
        found = s.op("concat", values=[found, rest], axis=3)
    return joined(s, found) if turned else found
