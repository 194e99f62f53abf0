#include <cmath>
#include <type_traits>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cpu/channel_tiles.hpp"
#include "kernels/expect.hpp"

namespace causeway::cpu {
namespace {

/// cos and sin are evaluated once in so many positions. The angles between follow by one complex product in float64.
constexpr std::int64_t position_block = 64;

/// See RopeAngles: in f64, the number that was rounded to float32.
template <class R>
double meant_frequency(R stored, double computed) {
  const auto value = static_cast<double>(stored);
  const bool rounded = std::abs(value - computed) <= inv_freq_rounding * computed;
  return std::is_same_v<R, double> && rounded ? computed : value;
}

template <class T>
void rotate_pairs(const Stream& stream, const Rope& args) {
  using R = Accumulator<T>;
  const std::int64_t tokens = args.x.rows(), heads = args.x.shape[1], E = args.x.shape[2], pairs = E / 2;
  std::vector<double> frequencies;
  for (std::int64_t i = 0; i < pairs; ++i) {
    const double computed = std::pow(args.angles.base, -2.0 * static_cast<double>(i) / static_cast<double>(E));
    const TensorView stored = args.angles.inv_freq;
    const double frequency = stored.present() ? meant_frequency<R>(stored.row<const R>(0)[i], computed) : computed;
    frequencies.push_back(frequency / args.angles.scaling);
  }
  const Tensor table(stream, DType::f64,
                     {position_block, pairs, 2});  // exp(i · position · frequency) for position < position_block
  for (std::int64_t position = 0; position < position_block; ++position)
    for (std::int64_t i = 0; i < pairs; ++i) {
      const double angle = static_cast<double>(position) * frequencies[static_cast<std::size_t>(i)];
      table.view().row<double>(position)[2 * i] = std::cos(angle);
      table.view().row<double>(position)[2 * i + 1] = std::sin(angle);
    }
  const std::int64_t blocks = ceil_div(tokens, position_block);
  const Tensor bases(stream, DType::f64, {blocks, pairs, 2}), angles(stream, dtype_of<R>, {blocks, pairs, 2});

#pragma omp parallel for schedule(static)
  for (std::int64_t block = 0; block < blocks; ++block) {
    double* const base = bases.view().row<double>(block);
    R* const angle = angles.view().row<R>(block);
    for_each_document(args.segments, block * position_block, std::min((block + 1) * position_block, tokens),
                      [&](std::int64_t first, std::int64_t last, std::int64_t start, std::int64_t) {
                        for (std::int64_t i = 0; i < pairs; ++i) {
                          const double at =
                              static_cast<double>(first - start) * frequencies[static_cast<std::size_t>(i)];
                          base[2 * i] = std::cos(at);
                          base[2 * i + 1] = std::sin(at);
                        }
                        for (std::int64_t t = first; t < last; ++t) {
                          const double* const step = table.view().row<const double>(t - first);
                          for (std::int64_t i = 0; i < 2 * pairs; i += 2) {
                            angle[i] = static_cast<R>(base[i] * step[i] - base[i + 1] * step[i + 1]);
                            const double sine = base[i] * step[i + 1] + base[i + 1] * step[i];
                            angle[i + 1] = static_cast<R>(args.inverse ? -sine : sine);
                          }
                          for (std::int64_t h = 0; h < heads; ++h) {
                            const T* const x = args.x.row<const T>(t) + h * E;
                            T* const y = args.y.row<T>(t) + h * E;
                            for (std::int64_t i = 0; i < pairs; ++i) {
                              const R a = static_cast<R>(x[i]), b = static_cast<R>(x[i + pairs]), cosine = angle[2 * i],
                                      sine = angle[2 * i + 1];
                              y[i] = static_cast<T>(a * cosine - b * sine);
                              y[i + pairs] = static_cast<T>(b * cosine + a * sine);
                            }
                          }
                        }
                      });
  }
}

}  // namespace

void rope(const Stream& stream, const Rope& args) {
  ensure(args.x.shape.rank() == 3 && args.x.rows() == args.segments.tokens && args.x.shape[2] % 2 == 0,
         "rope of {} for {} tokens, expected [tokens, H, E] with even E", args.x.shape.to_string(),
         args.segments.tokens);
  ensure(args.angles.base > 0 && args.angles.scaling > 0, "rope's base is {} and its scaling {}, expected more than 0",
         args.angles.base, args.angles.scaling);
  expect_if_present("rope's inv_freq", args.angles.inv_freq, accumulator_of(args.x.dtype), {args.x.shape[2] / 2});
  expect("y", args.y, args.x.dtype, args.x.shape);
  dispatch(args.x.dtype, [&]<class Type> { rotate_pairs<Type>(stream, args); });
}

}  // namespace causeway::cpu
