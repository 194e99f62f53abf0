#include "kernels/cross_entropy.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/elementwise.hpp"
#include "kernels/cpu/vector_math.hpp"

namespace causeway::cpu {

void cross_entropy(const Stream&, const CrossEntropy& args) {
  const auto [logits, labels_view, loss, d_logits] = args;
  const std::int64_t tokens = logits.rows(), vocabulary = logits.columns();
  const std::span<const std::int32_t> labels = labels_view.as<std::int32_t>();
  ensure(tokens == static_cast<std::int64_t>(labels.size()) && loss.size() == tokens && loss.dtype == accumulator_of(logits.dtype),
         "cross entropy of logits {} with labels {} into loss {} of {}", logits.shape.to_string(), labels_view.shape.to_string(),
         loss.shape.to_string(), name_of(loss.dtype));
  ensure(!d_logits.present() || (d_logits.shape == logits.shape && d_logits.dtype == logits.dtype), "cross entropy of {} with gradient {}",
         logits.shape.to_string(), d_logits.shape.to_string());
  const auto wrong = std::find_if(labels.begin(), labels.end(), [&, n = vocabulary](std::int32_t label) { return label >= n; });
  if (wrong != labels.end())
    fail(ExitCode::usage, "label {} is id {}, expected at most {} (the vocabulary's last)", wrong - labels.begin(), *wrong, vocabulary - 1);

  dispatch(logits.dtype, [&, &logits = logits, &loss = loss, &d_logits = d_logits, n = vocabulary]<class T>() {
    using Wide = Accumulator<T>;
#pragma omp parallel for schedule(static) if (tokens * n > 4 * run_length)
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::int32_t label = labels[static_cast<std::size_t>(t)];
      T* gradient = d_logits.present() ? d_logits.row<T>(t) : nullptr;
      if (label < 0) {  // selected, not multiplied away: the logits here may be anything
        *loss.row<Wide>(t) = 0;
        if (gradient != nullptr) std::fill_n(gradient, n, T(Wide{0}));
        continue;
      }
      const T* row = logits.row<T>(t);
      Wide largest = -std::numeric_limits<Wide>::infinity();
#pragma omp simd reduction(max : largest)
      for (std::int64_t v = 0; v < n; ++v) largest = std::max(largest, static_cast<Wide>(row[v]));
      Wide sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t v = 0; v < n; ++v) sum += exponential(static_cast<Wide>(row[v]) - largest);
      *loss.row<Wide>(t) = std::log(sum) + (largest - static_cast<Wide>(row[label]));
      if (gradient == nullptr) continue;
      const Wide at_label = exponential(static_cast<Wide>(row[label]) - largest) / sum;  // before `gradient`, which may be `row`, is written
#pragma omp simd
      for (std::int64_t v = 0; v < n; ++v) gradient[v] = exponential(static_cast<Wide>(row[v]) - largest) / sum;
      gradient[label] = at_label - 1;  // from the unrounded probability: bf16 would lose what is left of p - 1
    }
  });
}

}  // namespace causeway::cpu
