#include "io/data/readers/array_format.hpp"

#include <algorithm>
#include <array>

#include "kernels/core/error.hpp"

namespace causeway {

void append_ids(const NumberArray& tokens, const TokenRange& range, const NumberArray* weights, DocumentSink& out,
                const std::function<void(std::int64_t tokens)>& appended) {
  constexpr std::int64_t part = 8192;
  std::array<std::int64_t, part> ids;
  std::array<std::int32_t, part> narrow;
  std::array<double, part> given;
  std::array<float, part> narrow_weights;
  for (std::int64_t done = 0; done < range.count; done += part) {
    const auto count = static_cast<std::size_t>(std::min(part, range.count - done));
    tokens.read(range.begin + done, std::span(ids).first(count));
    for (std::size_t i = 0; i < count; ++i) {
      const bool good = out.fits(ids[i], [&] {
        return fmt::format("{}: document {}, position {}", tokens.path(), range.document,
                           range.position + done + static_cast<std::int64_t>(i));
      });
      narrow[i] = good ? static_cast<std::int32_t>(ids[i]) : 0;
    }
    if (weights != nullptr) {
      weights->read(range.begin + done, std::span(given).first(count));
      for (std::size_t i = 0; i < count; ++i) {
        const bool good = given[i] >= 0 && given[i] <= 1;
        if (!good)
          throw RecordError(fmt::format("{}: value {} is {}, expected a weight from 0 to 1", weights->path(),
                                        range.begin + done + static_cast<std::int64_t>(i), given[i]));
        narrow_weights[i] = static_cast<float>(given[i]);
      }
    }
    out.append(std::span(narrow).first(count), std::span(narrow_weights).first(weights == nullptr ? 0 : count));
    appended(static_cast<std::int64_t>(count));
  }
}

}  // namespace causeway
