// How fast a dataset is opened and read from the page cache: ninja bench_dataset_read && tests/bench_dataset_read
// [MILLION_TOKENS].
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <vector>

#include "io/data/dataset_writer.hpp"
#include "kernels/core/random.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

constexpr std::int64_t document_tokens = 2000, pack_tokens = 1 << 18;

/// Documents of random bases, two bits a token: what deflate makes of a genome.
void write_dataset(const std::string& path, std::int64_t tokens) {
  const RandomStream random(1, 2);
  DatasetWriter writer(path, 512, "bench");
  std::vector<std::int32_t> document(document_tokens);
  for (std::int64_t begin = 0; begin < tokens; begin += document_tokens) {
    for (std::size_t t = 0; t < document.size(); ++t)
      document[t] = "ACGT"[random.below(static_cast<std::uint64_t>(begin) + t, 4)];
    writer.begin_document(fmt::format("document {}", begin / document_tokens));
    writer.append(document);
  }
  writer.finish();
}

template <class Work>
double seconds_of(Work&& work) {
  const std::clock_t start = std::clock();  // of the processor: the same on a busy machine
  work();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

void run(std::int64_t tokens) {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "data.h5";
  write_dataset(path, tokens);
  fmt::print("{} tokens in documents of {}, {:.0f} MB of u16, {:.0f} MB on disk\n", tokens, document_tokens,
             2e-6 * static_cast<double>(tokens), 1e-6 * static_cast<double>(std::filesystem::file_size(path)));
  double open = 1e9, read = 1e9, names = 1e9, verify = 1e9;
  for (int round = 0; round < 3; ++round) {
    open = std::min(open, seconds_of([&] { Dataset{path}; }));
    const Dataset dataset(path);
    std::vector<std::int32_t> pack(pack_tokens);
    read =
        std::min(read, seconds_of([&] {
                   for (std::int64_t begin = 0; begin < tokens; begin += pack_tokens)
                     dataset.read_tokens(
                         begin, std::span(pack).first(static_cast<std::size_t>(std::min(pack_tokens, tokens - begin))));
                 }));
    names = std::min(names, seconds_of([&] { dataset.name(0); }));
    verify = std::min(verify, seconds_of([&] { Dataset(path).verify(); }));
  }
  fmt::print("open {:.3f} s, read all tokens {:.3f} s, first name {:.3f} s, open and verify {:.3f} s\n", open, read,
             names, verify);
}

}  // namespace
}  // namespace causeway

int main(int count, char** arguments) { causeway::run((count > 1 ? std::atoll(arguments[1]) : 200) * 1'000'000); }
