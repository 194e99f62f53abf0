// A dataset: opening or verifying it succeeds or throws Error. If it verifies, all of it can be read and is consistent.
#include "io/data/dataset.hpp"

#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace causeway;
  using namespace causeway::fuzz;
  static const causeway::testing::TemporaryFolder folder;
  const std::string path = folder.write("data.h5", text_of(data, size));
  bool verified = false;
  accepts(
      [&] {
        const Dataset dataset(path);
        dataset.verify();
        verified = true;
      },
      {ExitCode::usage, ExitCode::corrupt});
  if (!verified) return 0;
  const bool read = accepts(
      [&] {
        const Dataset dataset(path);
        const auto cu_seqlens = dataset.cu_seqlens();
        for (std::int64_t d = 0; d < dataset.documents(); ++d) {
          const std::int64_t begin = cu_seqlens[static_cast<std::size_t>(d)],
                             end = cu_seqlens[static_cast<std::size_t>(d) + 1];
          std::vector<std::int32_t> tokens(static_cast<std::size_t>(end - begin));
          std::vector<std::uint8_t> mask(dataset.has_loss_mask() ? tokens.size() : 0);
          dataset.read_tokens(begin, tokens);
          if (dataset.has_loss_mask()) dataset.read_loss_mask(begin, mask);
          std::vector<float> weights(tokens.size());
          dataset.read_label_weights(begin, weights);
          for (const float weight : weights) holds(weight >= 0 && weight <= 1, "weight {}", weight);
          dataset.name(d);
          for (const std::int32_t token : tokens)
            holds(token >= 0 && token < dataset.vocabulary_size(), "token {}", token);
          if (d > 100) break;  // more documents, read one by one, would test nothing else
        }
      },
      {});
  holds(read, "a dataset that verifies cannot be read");
  return 0;
}
