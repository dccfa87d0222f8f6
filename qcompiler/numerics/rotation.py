"""An orthogonal matrix whose entries are all about as large, so that what it mixes has no outliers.

    Q = diag(signs) (H_{2^k} x C_m) / sqrt(2^k),   d = 2^k m, m odd
    H_1 = [1],  H_{2n} = H_n x [[1, 1], [1, -1]]
    C_m = orthonormal cosines (DCT-II); entries of at most sqrt(2 / m)

Source: Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", 2024 (randomized Hadamard matrices).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def rotation(width: int, seed: int = 0) -> F64:
    """Q of shape (width, width); the same for the same arguments."""
    odd = width // (width & -width)
    even = np.ones((1, 1))
    while even.shape[0] * odd < width:
        even = np.kron(even, np.array([[1.0, 1.0], [1.0, -1.0]]))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], width)
    return np.asarray(signs[:, None] * np.kron(even / np.sqrt(even.shape[0]), cosines(odd)))


def cosines(size: int) -> F64:
    """The orthonormal matrix of DCT-II."""
    rows, columns = np.arange(size)[:, None], np.arange(size)[None, :]
    found = np.sqrt(2 / size) * np.cos(np.pi * (columns + 0.5) * rows / size)
    found[0] /= np.sqrt(2)
    return np.asarray(found)
