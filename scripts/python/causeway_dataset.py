"""Writes datasets of Causeway (data.h5; io/data/README.md describes the format) from Python.

    from causeway_dataset import DatasetWriter
    with DatasetWriter("data.h5", vocabulary_size=512, source="my program") as data:
        data.add("first document", b"ACGT")                      # bytes: byte b is token b
        data.add("second document", [65, 67, 0], weights=[1, 0.1, 1])

Memory does not grow with the number of documents or of tokens. The file appears complete, at the end of the with block,
or not at all. What it contains is what `causeway import` writes: `causeway inspect --verify` accepts it. Needs numpy
and h5py. This file imports no other of Causeway: it can be copied.
"""

import hashlib
import os
import tempfile
import zlib

import h5py
import numpy as np

CHUNK_TOKENS = 65536  # as io/data/dataset_writer.cpp has them
CHUNK_DOCUMENTS = 4096
LARGEST_VOCABULARY = 1 << 31


class _List:
    """A one-dimensional dataset that grows; values are collected until a chunk is full."""

    def __init__(self, file, name, dtype, chunk, hashed_as=None):
        text = dtype == h5py.string_dtype()
        self.data = file.create_dataset(name, shape=(0,), maxshape=(None,), dtype=dtype, chunks=(chunk,), shuffle=True,
                                        compression="gzip", compression_opts=1, fletcher32=not text, track_times=False)
        self.chunk, self.pending, self.count, self.hashed_as = chunk, [], 0, hashed_as
        self.digest = hashlib.sha256()

    def extend(self, values):
        self.pending.append(values)
        self.count += len(values)
        if self.count >= self.chunk:
            self.flush()

    def flush(self):
        values = np.concatenate(self.pending) if self.pending else np.zeros(0, self.data.dtype)
        begin = self.data.shape[0]
        self.data.resize((begin + len(values),))
        if len(values):
            self.data[begin:] = values
        if self.hashed_as:
            self.digest.update(np.ascontiguousarray(values, self.hashed_as).tobytes())
        self.pending, self.count = [], 0


class DatasetWriter:
    """Writes `path`. With `masked` every document has a loss mask, with `weighted` loss weights. An existing file is an
    error without `force`. `vocabulary_size` is the number of token ids; every token must be below it."""

    def __init__(self, path, vocabulary_size, source="", masked=False, weighted=False, force=False):
        if not 1 <= vocabulary_size <= LARGEST_VOCABULARY:
            raise ValueError(f"vocabulary size is {vocabulary_size}, expected 1 to {LARGEST_VOCABULARY}")
        if os.path.exists(path) and not (force and os.path.isfile(path)):
            raise FileExistsError(f"{path}: exists" + (" and is no file" if force else "; --force replaces it"))
        self.path, self.vocabulary_size, self.force = path, vocabulary_size, force
        folder, name = os.path.split(os.path.abspath(path))
        handle, self.temporary = tempfile.mkstemp(prefix=name[:40] + ".tmp-", dir=folder)
        os.close(handle)
        # 1.10: its structures have checksums, and older libraries read it.
        self.file = h5py.File(self.temporary, "w", libver=("v110", "v110"))
        self.tokens = _List(self.file, "tokens", "<u2" if vocabulary_size <= 65536 else "<u4", CHUNK_TOKENS, "<u4")
        self.mask = _List(self.file, "loss_mask", "u1", CHUNK_TOKENS, "u1") if masked else None
        self.weights = _List(self.file, "loss_weight", "<f4", CHUNK_TOKENS, "<f4") if weighted else None
        self.ends = _List(self.file, "cu_seqlens", "<i8", CHUNK_DOCUMENTS, "<i8")
        self.names = _List(self.file, "names", h5py.string_dtype(), CHUNK_DOCUMENTS)
        self.ends.extend(np.zeros(1, np.int64))
        self.file.attrs["source"] = str(source)
        self.documents = self.token_count = self.names_checksum = 0
        self.shortest = self.longest = 0
        self.histogram = np.zeros(65, np.int64)
        os.chmod(self.temporary, 0o666 & ~_umask())

    def add(self, name, tokens, mask=None, weights=None):
        """A document. `tokens`: bytes, or integers. `mask`: 0 where a token is not a label. `weights`: how much each
        token counts as a label, from 0 to 1. Raises ValueError, and then adds nothing."""
        if isinstance(tokens, (bytes, bytearray, memoryview)):
            tokens = np.frombuffer(tokens, np.uint8)
        tokens = np.asarray(tokens)
        if tokens.size == 0:
            tokens = tokens.astype(np.int64)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise ValueError(f"tokens are {tokens.dtype} of shape {tokens.shape}, expected a list of integers")
        wrong = np.flatnonzero((tokens < 0) | (tokens >= self.vocabulary_size))
        if wrong.size:
            raise ValueError(f"token {wrong[0]} is {tokens[wrong[0]]}, expected 0 to {self.vocabulary_size - 1}")
        lists = [(self.tokens, tokens)]
        for what, to, values in (("mask", self.mask, mask), ("weights", self.weights, weights)):
            if (to is None) != (values is None):
                raise ValueError(f"{what} of a document: {'not expected' if to is None else 'missing'}")
            if to is None:
                continue
            values = np.asarray(values)
            if values.shape != tokens.shape:
                raise ValueError(f"{what} have shape {values.shape}, expected {tokens.shape} as the tokens")
            if what == "weights":
                values = values.astype(np.float32) + np.float32(0)  # -0 becomes 0
                wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
                if wrong.size:
                    raise ValueError(f"weight {wrong[0]} is {values[wrong[0]]}, expected a number from 0 to 1")
            else:
                values = (values != 0).astype(np.uint8)
            lists.append((to, values))
        for to, values in lists:
            for begin in range(0, len(values), CHUNK_TOKENS):
                to.extend(values[begin:begin + CHUNK_TOKENS].astype(to.data.dtype))
        length = len(tokens)
        self.shortest = length if self.documents == 0 else min(self.shortest, length)
        self.longest = max(self.longest, length)
        self.histogram[length.bit_length()] += 1
        self.documents += 1
        self.token_count += length
        self.ends.extend(np.array([self.token_count], np.int64))
        stored = str(name).replace("\0", "?").encode("utf-8", "replace")
        self.names_checksum = zlib.crc32(stored + b"\0", self.names_checksum)
        self.names.extend(np.array([stored], dtype=object))

    def identity(self):
        """The identity of the content: io/data/identity.hpp has the formula. All values must be flushed."""
        words = [self.tokens.digest.hexdigest(), self.ends.digest.hexdigest(),
                 self.mask.digest.hexdigest() if self.mask else "none"]
        if self.weights:
            words.append(self.weights.digest.hexdigest())
        return hashlib.sha256(" ".join(["causeway-dataset-identity 1"] + words).encode()).hexdigest()

    def finish(self):
        """Writes what is known only at the end, and gives the file its name."""
        for values in filter(None, (self.tokens, self.mask, self.weights, self.ends, self.names)):
            values.flush()
        bins = self.longest.bit_length() + 1 if self.documents else 1
        histogram = self.file.create_dataset("statistics/length_histogram", data=self.histogram[:bins],
                                             track_times=False)
        histogram.attrs["bins"] = "bin 0: empty documents; bin k: 2^(k-1) <= length < 2^k"
        self.names.data.attrs["crc32"] = np.int64(self.names_checksum)
        self.file.attrs.update({
            "identity": self.identity(), "format": "causeway-dataset", "version": np.int64(1),
            "vocabulary_size": np.int64(self.vocabulary_size), "documents": np.int64(self.documents),
            "tokens": np.int64(self.token_count), "min_length": np.int64(self.shortest),
            "max_length": np.int64(self.longest),
            "mean_length": self.token_count / self.documents if self.documents else 0.0})
        self.file.close()
        with open(self.temporary, "rb+") as written:
            os.fsync(written.fileno())
        if self.force:
            os.replace(self.temporary, self.path)
        else:
            self._publish_new()
        self.temporary = None

    def _publish_new(self):
        """Gives the file its name, but not that of a file that has appeared meanwhile."""
        try:
            os.link(self.temporary, self.path)
        except FileExistsError:
            raise FileExistsError(f"{self.path}: exists; --force replaces it") from None
        except OSError:  # a file system without hard links
            if os.path.exists(self.path):
                raise FileExistsError(f"{self.path}: exists; --force replaces it") from None
            os.rename(self.temporary, self.path)
        else:
            os.unlink(self.temporary)

    def close(self):
        """Without finish() before: no file."""
        self.file.close()
        if self.temporary:
            os.unlink(self.temporary)
            self.temporary = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self.finish()
        finally:
            self.close()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
