// `causeway import` of one file of any format: writes a dataset that verifies and has the reported counts, or throws
// Error and leaves no file.
#include "io/data/import.hpp"
#include "io/data/dataset.hpp"
#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace causeway;
  using namespace causeway::fuzz;
  if (size < 2) return 0;
  static const causeway::testing::TemporaryFolder folder;
  const auto formats = import_formats();
  const std::uint8_t choice = data[0], options = data[1];
  const std::string path = folder.write(options & 1 ? "input.gz" : "input", text_of(data + 2, size - 2)),
                    out = folder / "data.h5";
  ImportReport report;
  const bool imported = accepts(
      [&] {
        report = import_files({.files = {path},
                               .out = out,
                               .format = std::string(formats[choice % formats.size()].name),
                               .vocabulary_size = options & 2 ? 100'000 : 512,
                               .transform = {.uppercase = (options & 4) != 0},
                               .skip_bad = (options & 8) != 0});
      },
      {ExitCode::usage});
  holds(folder.count() == (imported ? 2u : 1u), "{} files after an import that {}", folder.count(),
        imported ? "succeeded" : "failed");
  if (imported) {
    const bool read = accepts(
        [&] {
          const Dataset dataset(out);
          dataset.verify();
          holds(dataset.documents() == report.documents && dataset.tokens() == report.tokens,
                "{} documents, {} reported", dataset.documents(), report.documents);
        },
        {});
    holds(read, "what was imported cannot be read");
    std::filesystem::remove(out);
  }
  std::filesystem::remove(path);
  return 0;
}
