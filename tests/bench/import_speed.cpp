// How fast import reads each format, uncompressed and compressed: ninja bench_import_speed && tests/bench_import_speed
// [MILLION_BASES]. Seconds are of the processor: the same on a busy machine.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <functional>

#include "io/data/import.hpp"
#include "kernels/core/random.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

constexpr std::size_t record_bases = 2000;

/// Records of random bases, each in the form that `record` gives it.
std::string file_of(std::size_t bases, const std::function<std::string(const std::string& sequence)>& record) {
  const RandomStream random(1, 2);
  std::string text, sequence(record_bases, '\0');
  for (std::size_t begin = 0; begin < bases; begin += record_bases) {
    for (std::size_t t = 0; t < record_bases; ++t) sequence[t] = "ACGT"[random.below(begin + t, 4)];
    text += record(sequence);
  }
  return text;
}

double seconds_of_import(const ImportOptions& options) {
  double best = 1e9;
  for (int round = 0; round < 3; ++round) {
    const std::clock_t start = std::clock();
    import_files(options);
    best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  return best;
}

void run(std::size_t bases) {
  const testing::TemporaryFolder folder;
  const std::string qualities(record_bases, 'I');
  const auto in_lines = [](const std::string& sequence) {
    std::string text;
    for (std::size_t at = 0; at < sequence.size(); at += 80) text += sequence.substr(at, 80) + '\n';
    return text;
  };
  const std::pair<const char*, std::string> files[] = {
      {"a.fa", file_of(bases, [&](const std::string& s) { return ">a\n" + in_lines(s); })},
      {"a.fq", file_of(bases, [&](const std::string& s) { return "@a\n" + s + "\n+\n" + qualities + "\n"; })},
      {"a.lines", file_of(bases, [](const std::string& s) { return s + "\n"; })},
      {"a.jsonl", file_of(bases, [](const std::string& s) { return "{\"text\": \"" + s + "\"}\n"; })},
      {"a.tokens", file_of(bases,
                           [](const std::string& s) {
                             std::string text;
                             for (const char base : s) text += std::to_string(static_cast<int>(base)) + ' ';
                             return text + '\n';
                           })},
  };
  ImportOptions options;
  options.out = folder / "data.h5";
  options.force = true;
  const auto report = [&](const std::string& what) {
    const double seconds = seconds_of_import(options);
    fmt::print("{:<28} {:6.1f} million tokens/s\n", what, 1e-6 * static_cast<double>(bases) / seconds);
  };
  for (const auto& [name, text] : files) {
    options.files = {folder.write(name, text)};
    report(name);
  }
  options.files = {folder / "a.fa"};
  options.transform.uppercase = true;
  options.transform.lower_case_weight = 0.1;
  options.transform.mask_ambiguous = true;
  report("a.fa with weights");
  options.transform.strands = TransformOptions::Strands::both;
  report("a.fa, weights, both strands");
}

}  // namespace
}  // namespace causeway

int main(int count, char** arguments) {
  causeway::run(static_cast<std::size_t>(count > 1 ? std::atoi(arguments[1]) : 20) * 1'000'000);
  return 0;
}
