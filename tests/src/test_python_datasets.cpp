/// scripts/tokenize, scripts/parquet_import and the Python module that writes datasets.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/src/python.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

#define SKIP_WITHOUT(modules) \
  if (const std::string reason = without_python(modules); !reason.empty()) GTEST_SKIP() << reason

Outcome run_script(const TemporaryFolder& folder, const std::string& name, const std::string& arguments,
                   const std::string& environment = "") {
  return shell(folder, fmt::format("env {} '{}' '{}/scripts/{}' {}", environment, python(), CAUSEWAY_TEST_SOURCE, name,
                                   arguments));
}

/// A line of what `causeway inspect --verify` says of a dataset; empty if it refuses it.
std::string inspected(const TemporaryFolder& folder, const std::string& file, const std::string& line) {
  const Outcome outcome = shell(folder, "@causeway inspect --verify " + file);
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("every dataset, attribute and checksum read"), std::string::npos) << outcome.out;
  const std::size_t at = outcome.out.find("  " + line);
  return at == std::string::npos ? "" : outcome.out.substr(at, outcome.out.find('\n', at) - at);
}

/// Trains a tokenizer of bytes and pairs (tokenizer/), which cuts texts, and writes the same documents in many forms.
const char* const make_inputs = R"(
import bz2, gzip, json
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
words = ['the', 'Ωmega', 'cat', 'sat', 'überall', '\U0001F600', 'data']
documents = [' '.join(words[(i * j) % 7] for j in range(i % 40)) for i in range(300)]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.train_from_iterator(documents, trainers.BpeTrainer(
    vocab_size=300, special_tokens=['<end>'], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
tokenizer.enable_truncation(5)
import os
os.mkdir('tokenizer')
tokenizer.save('tokenizer/tokenizer.json')
with gzip.open('documents.jsonl.gz', 'wt') as file:
    for i, text in enumerate(documents): file.write(json.dumps({'content': text, 'id': i}) + '\n\n')
damaged = bytearray(bz2.compress(open('documents.jsonl.gz', 'rb').read()))
damaged[100] ^= 8
open('damaged.jsonl.bz2', 'wb').write(damaged)
open('lines.txt', 'w').write('\n'.join(documents) + '\n')
tokenizer.no_truncation()
json.dump([tokenizer.encode(text).ids + [0] for text in documents], open('expected.json', 'w'))
)";

TEST(TokenizeScript, WritesTheTokensOfTheTokenizerWithBoundariesNamesAndIdentity) {
  SKIP_WITHOUT("tokenizers h5py numpy");
  const TemporaryFolder folder;
  ASSERT_EQ(run_python(folder, make_inputs, "").exit, 0);
  const Outcome outcome = run_script(folder, "tokenize",
                                     "documents.jsonl.gz --text-key content --tokenizer tokenizer --out data.h5 "
                                     "--append-eod '<end>'");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(inspected(folder, "data.h5", "documents ").find("300, 0 of them empty"), std::string::npos);
  EXPECT_NE(inspected(folder, "data.h5", "tokens ").find("stored as u16"), std::string::npos);
  const Outcome compared = run_python(folder, R"(
import h5py, json
expected = json.load(open('expected.json'))
with h5py.File('data.h5') as file:
    ends, tokens = file['cu_seqlens'][:], file['tokens'][:]
    assert [tokens[a:b].tolist() for a, b in zip(ends[:-1], ends[1:])] == expected
    assert file['names'].asstr()[:].tolist() == [str(i) for i in range(300)]
    assert file.attrs['source'] == 'documents.jsonl.gz' and file.attrs['vocabulary_size'] > max(map(max, expected))
)",
                                      "");
  EXPECT_EQ(compared.exit, 0) << compared.err;
  const Outcome trained = shell(folder,
                                "@causeway train --data data.h5 --run run --layers mamba --width 8 --state 4 "
                                "--transport local --ranks 2 --steps 2 --pack-tokens 256");
  EXPECT_EQ(trained.exit, 0) << trained.err;
  const Outcome wide = run_script(folder, "tokenize",
                                  "lines.txt documents.jsonl.gz --format lines --tokenizer tokenizer/tokenizer.json "
                                  "--vocabulary 70000 --out wide.h5");
  EXPECT_EQ(wide.exit, 0) << wide.err;
  EXPECT_NE(inspected(folder, "wide.h5", "tokens ").find("70,000, stored as u32"), std::string::npos);
}

TEST(TokenizeScript, ReadsAPipeFromItsFirstByteToItsLast) {
  SKIP_WITHOUT("tokenizers h5py numpy");
  const TemporaryFolder folder;
  ASSERT_EQ(run_python(folder, make_inputs, "").exit, 0);
  for (const std::string input : {"lines.txt", "documents.jsonl.gz"}) {
    const std::string options = input == "lines.txt" ? "--format lines" : "--format jsonl --text-key content";
    const std::string script =
        fmt::format("{} {}/scripts/tokenize {} --tokenizer tokenizer --force", python(), CAUSEWAY_TEST_SOURCE, options);
    const Outcome outcome = shell(folder, fmt::format("sh -c '{0} {1} --out file.h5 && cat {1} | {0} /dev/stdin --out "
                                                      "pipe.h5'",
                                                      script, input));
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
    EXPECT_EQ(inspected(folder, "pipe.h5", "identity"), inspected(folder, "file.h5", "identity"));
  }
}

TEST(TokenizeScript, SaysWhatIsWrongAndLeavesNoFile) {
  SKIP_WITHOUT("tokenizers h5py numpy");
  const TemporaryFolder folder;
  ASSERT_EQ(run_python(folder, make_inputs, "").exit, 0);
  folder.write("bad.jsonl", "{\"text\": \"good\"}\n{\"text\": 7}\n");
  folder.write("half.jsonl", "{\"text\": \"\\ud800\"}\n");
  folder.write("latin1.txt", "caf\xe9");
  folder.write("cut.jsonl.gz", testing::bytes_of(folder / "documents.jsonl.gz").substr(0, 900));
  folder.write("there.h5", "something");
  folder.write("tokenizers.py", "raise ImportError");  // where PYTHONPATH is this folder
  const std::size_t before = folder.count();
  const std::string to = " --tokenizer tokenizer --out ";
  for (const auto& [arguments, text] :
       {std::pair<std::string, std::string>{"bad.jsonl" + to + "x.h5", "bad.jsonl: line 2: has no string \"text\""},
        {"half.jsonl" + to + "x.h5", "line 1: \"text\" has half of a surrogate pair"},
        {"latin1.txt" + to + "x.h5", "latin1.txt: found byte 3 that is not UTF-8"},
        {"cut.jsonl.gz --text-key content" + to + "x.h5", "cut.jsonl.gz: is damaged after line"},
        {"damaged.jsonl.bz2" + to + "x.h5", "damaged.jsonl.bz2: is damaged after line 0"},
        {"nowhere.txt" + to + "x.h5", "nowhere.txt: No such file"},
        {"lines.txt" + to + "there.h5", "there.h5: exists; --force replaces it"},
        {"lines.txt" + to + "lines.txt --force", "lines.txt: is input and output"},
        {"lines.txt --append-eod what" + to + "x.h5", "--append-eod is 'what', expected a token"},
        {"lines.txt --tokenizer bad.jsonl --out x.h5", "bad.jsonl: is not a tokenizer"},
        {"lines.txt --vocabulary 0" + to + "x.h5", "--vocabulary: found '0', expected 1 to 2147483648"},
        {"lines.txt --vocabulary 9" + to + "x.h5", "--vocabulary is 9, expected at least"}}) {
    const Outcome outcome = run_script(folder, "tokenize", arguments);
    EXPECT_EQ(outcome.exit, 2) << arguments << outcome.err;
    EXPECT_NE(outcome.err.find(text), std::string::npos) << arguments << outcome.err;
  }
  const Outcome missing =
      run_script(folder, "tokenize", "lines.txt" + to + "x.h5", "PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=.");
  EXPECT_EQ(missing.exit, 2);
  EXPECT_NE(missing.err.find("-m pip install tokenizers"), std::string::npos) << missing.err;
  EXPECT_EQ(folder.count(), before);
  EXPECT_EQ(testing::bytes_of(folder / "there.h5"), "something");
  EXPECT_EQ(run_script(folder, "tokenize", "lines.txt --force" + to + "there.h5").exit, 0);
}

TEST(ParquetImportScript, ReadsTextBytesAndIds) {
  SKIP_WITHOUT("tokenizers h5py numpy pyarrow");
  const TemporaryFolder folder;
  ASSERT_EQ(run_python(folder, make_inputs, "").exit, 0);
  const Outcome made = run_python(folder, R"(
import json, pyarrow, pyarrow.parquet
expected, documents = json.load(open('expected.json')), open('lines.txt').read().split('\n')[:-1]
pyarrow.parquet.write_table(pyarrow.table({
    'text': documents, 'bytes': [text.encode() for text in documents], 'ids': expected,
    'coded': pyarrow.array(documents).dictionary_encode(), 'name': [str(i) for i in range(300)],
    'number': [1.5] * 300, 'gaps': [None if i == 7 else 'a' for i in range(300)]}), 'data.parquet', row_group_size=70)
)",
                                  "");
  ASSERT_EQ(made.exit, 0) << made.err;
  const auto identity_of = [&](const std::string& script, const std::string& arguments) {
    const Outcome outcome = run_script(folder, script, arguments + " --out data.h5 --force");
    EXPECT_EQ(outcome.exit, 0) << arguments << outcome.err;
    return inspected(folder, "data.h5", "identity");
  };
  const std::string bytes = identity_of("parquet_import", "data.parquet --column text");
  EXPECT_EQ(identity_of("parquet_import", "data.parquet --column bytes --name-column name"), bytes);
  EXPECT_EQ(identity_of("parquet_import", "data.parquet --column coded"), bytes);
  const std::string ids = identity_of("parquet_import", "data.parquet --column ids --vocabulary 1000");
  EXPECT_NE(ids, bytes);
  EXPECT_EQ(identity_of("parquet_import", "data.parquet --column text --tokenizer tokenizer --append-eod 0"), ids);
  EXPECT_EQ(identity_of("tokenize", "documents.jsonl.gz --text-key content --tokenizer tokenizer --append-eod 0"), ids);
  for (const auto& [arguments, text] : {std::pair("--column number", "column 'number' has values of type double"),
                                        {"--column nothing", "has no column 'nothing', expected one of: text, bytes"},
                                        {"--column ids", "expected --vocabulary"},
                                        {"--column ids --vocabulary 9", "data.parquet:1: token 0 is"},
                                        {"--column ids --vocabulary -5", "--vocabulary: found '-5', expected 1"},
                                        {"--column gaps", "row 7 of 'gaps' is null; --skip-nulls"}}) {
    const Outcome outcome = run_script(folder, "parquet_import", fmt::format("data.parquet {} --out x.h5", arguments));
    EXPECT_EQ(outcome.exit, 2) << arguments << outcome.err;
    EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(folder / "x.h5")) << arguments;
  }
  EXPECT_EQ(run_script(folder, "parquet_import", "data.parquet --column gaps --skip-nulls --out x.h5").exit, 0);
  EXPECT_NE(inspected(folder, "x.h5", "documents ").find("299"), std::string::npos);
}

TEST(PythonDatasetWriter, GivesTheIdentityOfImportAndWritesMasksAndWeights) {
  SKIP_WITHOUT("h5py numpy");
  const TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 9000; ++i) lines += fmt::format("line {}\n", std::string(static_cast<std::size_t>(i % 50), 'x'));
  folder.write("lines.txt", lines + std::string(200'000, 'y'));
  ASSERT_EQ(shell(folder, "@causeway import lines.txt --format lines --out imported.h5").exit, 0);
  const Outcome written = run_python(folder, R"(
import sys, numpy
sys.path.insert(0, sys.argv[1])
from causeway_dataset import DatasetWriter
lines = open('lines.txt', 'rb').read().split(b'\n')
for file, masked, weighted in ('plain', 0, 0), ('masked', 1, 0), ('weighted', 0, 1), ('both', 1, 1):
    with DatasetWriter(file + '.h5', 512, 'test', masked=masked, weighted=weighted) as data:
        for i, line in enumerate(lines):
            data.add(f'lines.txt:{i + 1}', line, numpy.arange(len(line)) % 3 if masked else None,
                     numpy.arange(len(line)) % 5 / 4 if weighted else None)
for wrong in dict(tokens=[512]), dict(tokens=[1, -1]), dict(tokens=[1.5]), dict(tokens=[1], weights=[1]):
    try:
        with DatasetWriter('wrong.h5', 512) as data: data.add('d', **wrong)
    except ValueError: continue
    sys.exit(f'{wrong} was not refused')
try:
    with DatasetWriter('wrong.h5', 512, weighted=True) as data: data.add('d', [1, 2], weights=[1, float('nan')])
except ValueError as error: assert 'weight 1 is nan' in str(error), error
)",
                                     fmt::format("'{}/scripts/python'", CAUSEWAY_TEST_SOURCE));
  ASSERT_EQ(written.exit, 0) << written.err;
  EXPECT_FALSE(std::filesystem::exists(folder / "wrong.h5"));
  const std::string identity = inspected(folder, "imported.h5", "identity");
  EXPECT_EQ(inspected(folder, "plain.h5", "identity"), identity);
  EXPECT_EQ(inspected(folder, "plain.h5", "lengths"), inspected(folder, "imported.h5", "lengths"));
  for (const std::string file : {"masked.h5", "weighted.h5", "both.h5"})
    EXPECT_NE(inspected(folder, file, "identity"), identity);  // verified: the C++ code computes the same
  EXPECT_NE(inspected(folder, "both.h5", "loss weights").find("with the mask"), std::string::npos);
}

TEST(PythonDatasetWriter, MasksOfNumpysBoolAndWeightsOfAnyFloatAreRead) {
  SKIP_WITHOUT("h5py numpy");
  const TemporaryFolder folder;
  folder.write("lines.txt", std::string(70'000, 'y') + "\n");
  ASSERT_EQ(shell(folder, "@causeway import lines.txt --format lines --out data.h5").exit, 0);
  const Outcome written = run_python(folder, R"(
import h5py, numpy, shutil
for file, name, values in (('bool', 'loss_mask', numpy.arange(70000) % 2 == 0),
                           ('half', 'loss_weight', (numpy.arange(70000) % 2).astype('f2')),
                           ('double', 'loss_weight', (numpy.arange(70000) % 2).astype('f8')),
                           ('int8', 'loss_mask', numpy.full(70000, -1, 'i1'))):
    shutil.copy('data.h5', file + '.h5')
    with h5py.File(file + '.h5', 'r+') as data:
        data.create_dataset(name, data=values, chunks=(6000,), compression='gzip')
        del data.attrs['identity']
)",
                                     "");
  ASSERT_EQ(written.exit, 0) << written.err;
  EXPECT_NE(inspected(folder, "bool.h5", "loss mask").find("yes"), std::string::npos);
  const std::string weights = inspected(folder, "half.h5", "loss weights");
  EXPECT_NE(weights.find("sum 35000.0; 50.00 % of the tokens have weight 0"), std::string::npos) << weights;
  EXPECT_EQ(inspected(folder, "double.h5", "loss weights"), weights);
  EXPECT_EQ(inspected(folder, "double.h5", "identity"), inspected(folder, "half.h5", "identity"));
  const Outcome outcome = shell(folder, "@causeway inspect --verify int8.h5");
  EXPECT_EQ(outcome.exit, 2);
  EXPECT_NE(outcome.err.find("int8.h5:/loss_mask: value 0 is -1, expected 0 or 1"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace causeway::test
