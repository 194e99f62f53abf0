"""A Hugging Face tokenizer as Causeway's scripts use it: text to token ids, nothing cut and nothing padded."""

import os

from causeway_script import Refused, load

BATCH_BYTES = 1 << 20  # a token takes some 100 bytes in the package
BATCH_DOCUMENTS = 1024


class Tokenizer:
    """`path`: tokenizer.json, or a folder that has one. `vocabulary`: the number of ids of the dataset, if it is to be
    larger than the tokenizer's. `eod`: an id, or else a token, that ends every document."""

    def __init__(self, path, vocabulary=None, eod=None, special_tokens=False):
        tokenizers = load("tokenizers")
        file = os.path.join(path, "tokenizer.json") if os.path.isdir(path) else path
        if not os.path.isfile(file):
            raise Refused(f"{file}: is missing, expected the tokenizer.json of a Hugging Face tokenizer")
        try:
            self.tokenizer = tokenizers.Tokenizer.from_file(file)
        except Exception as error:  # the package raises nothing more precise
            raise Refused(f"{file}: is not a tokenizer: {error}") from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.special_tokens = special_tokens
        ids = self.tokenizer.get_vocab(with_added_tokens=True)
        smallest = max(ids.values(), default=0) + 1
        self.vocabulary_size = vocabulary or smallest
        if self.vocabulary_size < smallest:
            raise Refused(f"--vocabulary is {vocabulary}, expected at least the {smallest} ids of {file}")
        self.eod = []
        if eod is not None:
            end = int(eod) if eod.isdigit() else ids.get(eod)
            if end is None or end >= self.vocabulary_size:
                raise Refused(f"--append-eod is '{eod}', expected a token of {file}, or an id below "
                              f"{self.vocabulary_size}")
            self.eod = [end]

    def documents(self, texts):
        """The (name, ids) of each (name, text), in order. Texts are tokenised a MiB at a time, on all cores."""
        batch, size = [], 0
        for name, text in texts:
            batch.append((name, text))
            size += len(text)
            if size >= BATCH_BYTES or len(batch) >= BATCH_DOCUMENTS:
                yield from self._encode(batch)
                batch, size = [], 0
        yield from self._encode(batch)

    def _encode(self, batch):
        found = self.tokenizer.encode_batch([text for _, text in batch], add_special_tokens=self.special_tokens)
        for (name, _), encoding in zip(batch, found):
            yield name, encoding.ids + self.eod
