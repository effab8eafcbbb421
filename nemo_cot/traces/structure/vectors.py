"""Texts as vectors without a model: hashed words and pairs of words, for similarity and diversity."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from nemo_cot.traces.structure import View, mixed

SIZE = 1024
"""Buckets. Two texts without a word in common have a similarity of 0 on average, with a spread of about 1/32."""


def text_vector(view: View) -> np.ndarray:
    """float16 [SIZE], of length 1 (0 for a text without words): log(1 + count) of each word and each pair of
    words that follow each other, added with a sign into a bucket, both by a hash (feature hashing, arXiv 0902.2206).
    """
    words = (zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in view.vocabulary)
    hashes = mixed(np.fromiter(words, np.uint64, len(view.vocabulary)))[view.numbers]
    pairs = mixed(hashes[:-1] * np.uint64(3) + hashes[1:])
    features, counts = np.unique(np.concatenate([hashes, pairs]), return_counts=True)
    signs = np.where(features >> np.uint64(63), 1.0, -1.0)
    buckets = (features % np.uint64(SIZE)).astype(np.int64)
    found = np.bincount(buckets, weights=np.log1p(counts) * signs, minlength=SIZE)
    return (found / (np.linalg.norm(found) or 1.0)).astype(np.float16)


def distinctive(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """float32 [N, D], each row of length 1 (or 0): what sets a vector apart from the mean of all.

    Taking the mean away does what inverse document frequencies do: words that all texts have count little.
    """
    found = np.stack(vectors).astype(np.float32)
    found -= found.mean(axis=0)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(norms > 1e-6, norms, 1.0)
