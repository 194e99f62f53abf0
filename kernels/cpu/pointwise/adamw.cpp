#include "kernels/adamw.hpp"

#include <cmath>
#include <limits>

#include "kernels/cpu/pointwise/elementwise.hpp"
#include "kernels/expect_adamw.hpp"

namespace causeway::cpu {

void gradient_factor(const Stream&, const GradientFactor& args) {
  double& norm = args.norm.as<double>()[0];
  norm = std::sqrt(args.squares.as<double>()[0]) * args.scale;
  const bool finite = std::isfinite(norm) && (!args.loss.present() || std::isfinite(args.loss.as<double>()[0]));
  args.factor.as<double>()[0] = !finite                             ? std::numeric_limits<double>::quiet_NaN()
                                : args.clip > 0 && norm > args.clip ? args.scale * (args.clip / norm)
                                                                    : args.scale;
}

void adamw(const Stream&, const AdamW& args) {
  const TensorView weights = args.weights.present() ? args.weights : args.master;
  expect_adamw(args);
  const double factor = args.factor.present() ? args.factor.as<double>()[0] : 1;
  if (!std::isfinite(factor)) return;
  dispatch(weights.dtype, [&]<class T>() {
    using Wide = Accumulator<T>;
    const auto steps = static_cast<double>(args.step);
    const auto scale = static_cast<Wide>(args.gradient_scale * factor), rate = static_cast<Wide>(args.learning_rate),
               eps = static_cast<Wide>(args.eps), decay = static_cast<Wide>(args.weight_decay),
               beta1 = static_cast<Wide>(args.beta1), beta2 = static_cast<Wide>(args.beta2),
               one_minus_beta1 = static_cast<Wide>(1 - args.beta1), one_minus_beta2 = static_cast<Wide>(1 - args.beta2),
               bias_correction1 = static_cast<Wide>(1 / (1 - std::pow(args.beta1, steps))),
               bias_correction2 = static_cast<Wide>(1 / (1 - std::pow(args.beta2, steps)));
    for_each_span({args.gradient, args.master, args.exp_avg, args.exp_avg_sq, weights},
                  [&](std::int64_t row, std::int64_t column, std::int64_t count) {
                    const Wide* gradient = args.gradient.row<Wide>(row) + column;
                    Wide* master = args.master.row<Wide>(row) + column;
                    Wide* exp_avg = args.exp_avg.row<Wide>(row) + column;
                    Wide* exp_avg_sq = args.exp_avg_sq.row<Wide>(row) + column;
#pragma omp simd
                    for (std::int64_t i = 0; i < count; ++i) {
                      const Wide g = scale * gradient[i];
                      exp_avg[i] = beta1 * exp_avg[i] + one_minus_beta1 * g;
                      exp_avg_sq[i] = beta2 * exp_avg_sq[i] + one_minus_beta2 * g * g;
                      const Wide update =
                          bias_correction1 * exp_avg[i] / (std::sqrt(bias_correction2 * exp_avg_sq[i]) + eps);
                      master[i] -= rate * (update + decay * master[i]);
                    }
                    if (!args.weights.present()) return;
                    T* rounded = args.weights.row<T>(row) + column;
#pragma omp simd
                    for (std::int64_t i = 0; i < count; ++i) rounded[i] = master[i];
                  });
  });
}

void await_adamw(const Stream&, const AwaitAdamW&) {}  // on the CPU every call is done when it returns

}  // namespace causeway::cpu
