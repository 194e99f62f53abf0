#include "kernels/cross_entropy.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/pointwise/elementwise.hpp"
#include "kernels/cpu/vector_math.hpp"
#include "kernels/expect.hpp"

namespace causeway::cpu {
namespace {

/// T: the type of the logits, G: that of their gradient.
template <class T, class G>
void loss_and_gradient(const CrossEntropy& args, std::span<const std::int32_t> labels) {
  using Wide = Accumulator<T>;
  const std::int64_t tokens = args.logits.rows(), vocabulary = args.logits.columns();
#pragma omp parallel for schedule(static) if (tokens * vocabulary > 4 * span_length)
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int32_t label = labels[static_cast<std::size_t>(t)];
    const float weight = args.weights.present() ? *args.weights.row<float>(t) : 1;
    const Wide factor = static_cast<Wide>(args.weight_scale) * static_cast<Wide>(weight);
    G* d_logits = args.d_logits.present() ? args.d_logits.row<G>(t) : nullptr;
    if (label < 0 || weight == 0) {  // not multiplied by zero: logits may be NaN or infinite here
      *args.loss.row<Wide>(t) = 0;
      if (d_logits != nullptr) std::fill_n(d_logits, vocabulary, G(Wide{0}));
      continue;
    }
    const T* logits = args.logits.row<T>(t);
    Wide largest = -std::numeric_limits<Wide>::infinity();
#pragma omp simd reduction(max : largest)
    for (std::int64_t v = 0; v < vocabulary; ++v) largest = std::max(largest, static_cast<Wide>(logits[v]));
    Wide sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t v = 0; v < vocabulary; ++v) sum += exponential(static_cast<Wide>(logits[v]) - largest);
    const Wide at_label = static_cast<Wide>(logits[label]) - largest;
    *args.loss.row<Wide>(t) = factor * (std::log(sum) - at_label);
    if (d_logits == nullptr) continue;
#pragma omp simd
    for (std::int64_t v = 0; v < vocabulary; ++v)
      d_logits[v] = factor * (exponential(static_cast<Wide>(logits[v]) - largest) / sum);
    // p - 1 from the unrounded p: after rounding to bf16 the difference would be lost
    d_logits[label] = factor * (exponential(at_label) / sum - 1);
  }
}

}  // namespace

void cross_entropy(const Stream&, const CrossEntropy& args) {
  const TensorView logits = args.logits;
  expect("cross entropy's labels", args.labels, DType::i32, {logits.rows()});
  expect("cross entropy's loss", args.loss, accumulator_of(logits.dtype), {logits.rows()});
  const bool narrower = args.d_logits.present() && args.d_logits.dtype != logits.dtype;
  expect_if_present("cross entropy's d_logits", args.d_logits,
                    narrower && logits.dtype == DType::f32 ? DType::bf16 : logits.dtype, logits.shape);
  expect_if_present("cross entropy's weights", args.weights, DType::f32, {logits.rows()});
  const std::span<const std::int32_t> labels = args.labels.as<std::int32_t>();
  const auto wrong =
      std::find_if(labels.begin(), labels.end(), [&](std::int32_t label) { return label >= logits.columns(); });
  if (wrong != labels.end())
    fail(ExitCode::usage, "label {} is id {}, expected at most {}, the last id of the vocabulary",
         wrong - labels.begin(), *wrong, logits.columns() - 1);
  if (narrower)
    loss_and_gradient<float, bf16>(args, labels);
  else
    dispatch(logits.dtype, [&]<class T>() { loss_and_gradient<T, T>(args, labels); });
}

}  // namespace causeway::cpu
