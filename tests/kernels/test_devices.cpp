#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/adamw.hpp"
#include "kernels/attention.hpp"
#include "kernels/bias.hpp"
#include "kernels/core/random.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/embedding.hpp"
#include "kernels/fourier.hpp"
#include "kernels/fp8/fp8.hpp"
#include "kernels/gemm.hpp"
#include "kernels/norm.hpp"
#include "kernels/probe.hpp"
#include "kernels/reorder.hpp"
#include "tests/support/gpu.hpp"

/// Compares the GPU's kernels with the CPU's, which are the specification: every entry of `kernels` below, with random
/// shapes and row strides. Skipped on a machine without a usable GPU.
namespace causeway::test {
namespace {

/// The same tensor on both devices. It may be columns of a wider one, whose other columns must not change.
struct TensorOnBoth {
  Tensor start, cpu, gpu;  ///< its initial values, and the two copies
  Shape shape;
  std::int64_t left = 0;

  TensorView on(const Stream& stream) const { return view(stream.device() == Device::cuda ? gpu : cpu); }
  TensorView view(TensorView wide) const {
    TensorView x = wide;
    x.data = static_cast<std::byte*>(x.data) + left * size_of(x.dtype);
    x.shape = shape;
    return x;
  }
};

/// One call of a kernel with random arguments: makes it on both devices and compares the results.
class RandomCall {
 public:
  RandomCall(const Stream& cpu, const Stream& gpu, DType of, std::uint64_t seed)
      : dtype(of), wide(accumulator_of(of)), cpu_(cpu), gpu_(gpu), draws_(seed, 0x9b0) {}

  const DType dtype, wide;

  std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(draws_.below(next_++, static_cast<std::uint64_t>(bound)));
  }
  bool coin() { return below(2) == 1; }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[below(static_cast<std::int64_t>(choices.size()))];
  }
  /// A number of rows below, equal to and above the threads of a warp or a block; sometimes zero.
  std::int64_t rows() { return one_of<std::int64_t>({0, 1, 2, 7, 31, 32, 33, 64, 129, 257, 1000}); }
  /// The same for columns, odd and even; and more columns than a block holds in registers.
  std::int64_t columns() {
    return one_of<std::int64_t>({1, 2, 3, 4, 5, 8, 24, 31, 33, 64, 70, 128, 255, 256, 1030, 2048, 5000, 8200});
  }
  Shape matrix() {
    const std::int64_t across = columns();
    return {across > 1000 ? rows() % 100 : rows(), across};
  }

  /// Random numbers. Rows may be further apart than they are long, and not aligned; `unit` divides their offset and
  /// their distance.
  TensorOnBoth& tensor(DType type, Shape shape, double low = -1, double high = 1, std::int64_t unit = 1) {
    const bool strided = shape.rank() > 1 && coin();
    const std::int64_t left = strided ? unit * one_of<std::int64_t>({0, 1, 8}) : 0,
                       right = strided ? unit * one_of<std::int64_t>({0, 3, 8}) : 0;
    Tensor start = random_tensor(cpu_, type, {shape[0], left + shape.row_size() + right},
                                 static_cast<std::uint64_t>(below(1 << 30)), low, high);
    Tensor cpu(cpu_, type, start.view().shape), gpu(gpu_, type, start.view().shape);
    cpu_.copy(cpu.view().data, start.view().data, start.view().bytes());
    tensors_.push_back(std::make_unique<TensorOnBoth>(std::move(start), std::move(cpu), std::move(gpu), shape, left));
    return *tensors_.back();
  }
  TensorOnBoth& ids(std::int64_t count, std::int64_t first, std::int64_t vocabulary) {
    return tensor(DType::i32, {count}, static_cast<double>(first), static_cast<double>(vocabulary));
  }
  /// The documents of a run, on both devices.
  SegmentsView segments(std::int64_t tokens, const Stream& stream) {
    if (!segments_) {
      const Segments pack = random_segments(tokens + 20, static_cast<std::uint64_t>(below(1 << 30)));
      const auto segments_on = [&](const Stream& stream_of) {
        return DeviceSegments(stream_of, pack.slice(10, 10 + tokens), tokens);
      };
      segments_.emplace(segments_on(cpu_), segments_on(gpu_));
    }
    return (stream.device() == Device::cuda ? segments_->second : segments_->first).view();
  }

  /// Checks what `call` writes: every tensor is the same on both devices up to `roundings` of its type, a second call
  /// on the GPU gives the same bits, and nothing outside the given columns changes. For bf16 at most two roundings are
  /// allowed: every sum is kept in float32 and rounded once.
  void compare(const std::function<void(const Stream&)>& call, double roundings) {
    call(cpu_);
    std::vector<Tensor> first;
    for (int repeat = 0; repeat < 2; ++repeat) {
      for (const auto& both : tensors_)
        gpu_.copy(both->gpu.view().data, both->start.view().data, both->start.view().bytes());
      call(gpu_);
      for (std::size_t i = 0; i < tensors_.size(); ++i) {
        Tensor now(cpu_, tensors_[i]->cpu.view().dtype, tensors_[i]->cpu.view().shape);
        gpu_.copy(now.view().data, tensors_[i]->gpu.view().data, now.view().bytes());
        gpu_.wait();
        if (repeat == 0) {
          first.push_back(std::move(now));
        } else {
          EXPECT_TRUE(same_bits(now, first[i]))
              << "argument " << i << " " << tensors_[i]->shape.to_string() << " differs from call to call";
        }
      }
    }
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const TensorOnBoth& both = *tensors_[i];
      const TensorView got = both.view(first[i]), expected = both.view(both.cpu);
      if (roundings == 0) {
        EXPECT_TRUE(same_bits(got, expected)) << "argument " << i << " " << both.shape.to_string();
      } else if (expected.dtype != DType::i32) {
        EXPECT_LE(relative_error(got, expected),
                  (expected.dtype == DType::bf16 ? std::min(roundings, 2.0) : roundings) * rounding_of(expected.dtype))
            << "argument " << i << " " << name_of(expected.dtype) << " " << both.shape.to_string() << " at stride "
            << expected.row_stride;
      }
      EXPECT_TRUE(same_outside(first[i], both))
          << "argument " << i << " " << both.shape.to_string() << " is written outside its columns";
    }
  }

 private:
  static bool same_outside(TensorView now, const TensorOnBoth& both) {
    const std::int64_t end = both.left + both.shape.row_size();
    const TensorView start = both.start;
    if (start.columns() == both.shape.row_size() || both.shape.rank() < 2) return true;
    return same_bits(now.slice_columns(0, both.left), start.slice_columns(0, both.left)) &&
           same_bits(now.slice_columns(end, now.columns() - end), start.slice_columns(end, now.columns() - end));
  }

  Stream cpu_, gpu_;
  RandomStream draws_;
  std::uint64_t next_ = 0;
  std::vector<std::unique_ptr<TensorOnBoth>> tensors_;
  std::optional<std::pair<DeviceSegments, DeviceSegments>> segments_;
};

/// A kernel, and a function that makes a random call of it and compares the devices.
struct KernelCase {
  const char* name;
  void (*run)(RandomCall&);
};

Activation any_activation(RandomCall& t) { return t.one_of({Activation::none, Activation::silu, Activation::gelu}); }

const KernelCase kernels[] = {
    {"scale",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const TensorOnBoth &x = t.tensor(t.dtype, shape),
                          &y = t.tensor(t.one_of({DType::f64, DType::f32, DType::bf16}), shape);
       const bool accumulate = t.coin();
       // A power of two: the multiplication is exact, so that a fused multiply-add gives the same result.
       t.compare(
           [&](const Stream& s) { scale(s, {.x = x.on(s), .alpha = -0.5, .accumulate = accumulate, .y = y.on(s)}); },
           0);
     }},
    {"fill",
     [](RandomCall& t) {
       const TensorOnBoth& y = t.tensor(t.dtype, t.matrix());
       t.compare([&](const Stream& s) { fill(s, {.value = 0.1, .y = y.on(s)}); }, 0);
     }},
    {"copy_rows",
     [](RandomCall& t) {
       const RowRange ranges[] = {{.from = 2, .to = 0, .count = 3},
                                  {.from = 0, .to = 90, .count = 1},
                                  {.from = 4, .to = 1, .count = 80},
                                  {.from = 7, .to = 7}};
       const Shape shape{100, t.columns()};
       const TensorOnBoth &x = t.tensor(t.dtype, shape), &y = t.tensor(t.dtype, shape);
       const bool accumulate = t.coin();
       t.compare(
           [&](const Stream& s) {
             copy_rows(s, {.x = x.on(s), .ranges = ranges, .accumulate = accumulate, .y = y.on(s)});
           },
           0);
     }},
    {"transpose",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const TensorOnBoth &x = t.tensor(t.dtype, shape),
                          &y = t.tensor(t.one_of({t.dtype, t.wide}), {shape[1], shape[0]});
       const bool accumulate = t.coin();
       t.compare([&](const Stream& s) { transpose(s, {.x = x.on(s), .accumulate = accumulate, .y = y.on(s)}); }, 0);
     }},
    {"gated_activation_forward",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const TensorOnBoth &a = t.tensor(t.dtype, shape, -6, 6), &b = t.tensor(t.dtype, shape),
                          &y = t.tensor(t.dtype, shape);
       const Activation activation = any_activation(t);
       t.compare(
           [&](const Stream& s) {
             gated_activation_forward(s, {.a = a.on(s), .b = b.on(s), .activation = activation, .y = y.on(s)});
           },
           32);
     }},
    {"gated_activation_backward",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const TensorOnBoth &a = t.tensor(t.dtype, shape, -6, 6), &b = t.tensor(t.dtype, shape),
                          &d_y = t.tensor(t.dtype, shape), &d_b = t.tensor(t.dtype, shape);
       const TensorOnBoth& d_a = t.coin() ? a : t.tensor(t.dtype, shape);  // may be the same memory as its input
       const bool gives_y = t.coin();
       const TensorOnBoth& y = t.coin() ? d_y : t.tensor(t.dtype, shape);
       const Activation activation = any_activation(t);
       t.compare(
           [&](const Stream& s) {
             gated_activation_backward(s, {.a = a.on(s),
                                           .b = b.on(s),
                                           .activation = activation,
                                           .d_y = d_y.on(s),
                                           .d_a = d_a.on(s),
                                           .d_b = d_b.on(s),
                                           .y = gives_y ? y.on(s) : TensorView{}});
           },
           32);
     }},
    {"multiply",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const TensorOnBoth &a = t.tensor(t.dtype, shape), &b = t.tensor(t.dtype, shape), &y = t.tensor(t.dtype, shape);
       const bool accumulate = t.coin();
       t.compare(
           [&](const Stream& s) { multiply(s, {.a = a.on(s), .b = b.on(s), .accumulate = accumulate, .y = y.on(s)}); },
           4);
     }},
    {"negative_exponential",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const TensorOnBoth &x = t.tensor(t.dtype, shape, -8, 3), &y = t.tensor(t.dtype, shape);
       t.compare([&](const Stream& s) { negative_exponential(s, {.x = x.on(s), .y = y.on(s)}); }, 8);
     }},
    {"negative_exponential_backward",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const TensorOnBoth &y = t.tensor(t.dtype, shape), &d_y = t.tensor(t.dtype, shape),
                          &d_x = t.tensor(t.dtype, shape);
       t.compare(
           [&](const Stream& s) {
             negative_exponential_backward(s, {.y = y.on(s), .d_y = d_y.on(s), .d_x = d_x.on(s)});
           },
           4);
     }},
    {"repeated_exponential",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const TensorOnBoth &x = t.tensor(t.dtype, shape), &y = t.tensor(t.dtype, shape);
       const std::int64_t times = t.below(20);
       t.compare([&](const Stream& s) { repeated_exponential(s, {.x = x.on(s), .times = times, .y = y.on(s)}); }, 16);
     }},
    {"sum_of_elements",
     [](RandomCall& t) {
       // All values have one sign: with cancellation the relative error would have no meaning. The CPU adds n numbers
       // one by one; their rounding errors grow like √n.
       const TensorOnBoth &x = t.tensor(t.dtype, t.matrix(), 0, 1), &sum = t.tensor(DType::f64, {1});
       t.compare([&](const Stream& s) { sum_of_elements(s, {.x = x.on(s), .sum = sum.on(s)}); },
                 64 + std::sqrt(static_cast<double>(x.shape.size())));
     }},
    {"gradient_factor",
     [](RandomCall& t) {
       const TensorOnBoth &squares = t.tensor(DType::f64, {1}, 0, 9), &loss = t.tensor(DType::f64, {1}),
                          &norm = t.tensor(DType::f64, {1}), &factor = t.tensor(DType::f64, {1});
       const double clip = t.one_of({0.0, 0.3, 100.0});
       t.compare(
           [&](const Stream& s) {
             gradient_factor(s, {.squares = squares.on(s),
                                 .loss = loss.on(s),
                                 .scale = 0.25,
                                 .clip = clip,
                                 .norm = norm.on(s),
                                 .factor = factor.on(s)});
           },
           4);
     }},
    {"sum_of_rank_parts",
     [](RandomCall& t) {
       const std::int64_t count = t.one_of<std::int64_t>({1, 7, 256, 1000}), ranks = t.one_of<std::int64_t>({1, 2, 5});
       const TensorOnBoth &received = t.tensor(t.one_of({t.dtype, DType::bf16}), {ranks, count}),
                          &own = t.tensor(t.dtype, {count}), &y = t.tensor(t.dtype, {count});
       const std::int64_t rank = ranks - 1;
       const bool accumulate = t.coin(), in_place = t.coin();
       t.compare(
           [&](const Stream& s) {
             sum_of_rank_parts(s, {.received = received.on(s),
                                   .own = in_place ? y.on(s) : own.on(s),
                                   .rank = rank,
                                   .accumulate = accumulate && !in_place,
                                   .y = y.on(s)});
           },
           1);
     }},
    {"sum_of_squares",
     [](RandomCall& t) {
       const TensorOnBoth &x = t.tensor(t.dtype, t.matrix()), &sum = t.tensor(DType::f64, {1});
       t.compare([&](const Stream& s) { sum_of_squares(s, {.x = x.on(s), .sum = sum.on(s)}); }, 64);
     }},
    {"round_to_fp8",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const TensorOnBoth &x = t.tensor(t.dtype, shape, -1e3, 1e3), &y = t.tensor(t.dtype, shape);
       const Fp8Format format = t.one_of({Fp8Format::e4m3, Fp8Format::e5m2});
       const bool by_columns = t.coin();
       t.compare(
           [&](const Stream& s) {
             round_to_fp8(s, {.x = x.on(s), .format = format, .by_columns = by_columns, .y = y.on(s)});
           },
           0);
     }},
    {"gemm",
     [](RandomCall& t) {
       const auto extent = [&] { return t.one_of<std::int64_t>({0, 1, 3, 8, 31, 64, 100, 129, 257}); };
       const std::int64_t m = extent(), n = extent(), k = extent();
       const bool transpose_a = t.coin(), transpose_b = t.coin();
       const double beta = t.one_of({0.0, 1.0, -0.5});
       const TensorOnBoth &a = t.tensor(t.dtype, transpose_a ? Shape{k, m} : Shape{m, k}),
                          &b = t.tensor(t.dtype, transpose_b ? Shape{n, k} : Shape{k, n}),
                          &c = t.tensor(t.one_of({t.dtype, t.wide}), {m, n});
       t.compare(
           [&](const Stream& s) {
             gemm(s, {.a = a.on(s),
                      .b = b.on(s),
                      .transpose_a = transpose_a,
                      .transpose_b = transpose_b,
                      .beta = beta,
                      .c = c.on(s)});
           },
           32);
     }},
    {"bias_forward",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const TensorOnBoth &bias = t.tensor(t.wide, {shape[1]}), &y = t.tensor(t.dtype, shape);
       t.compare([&](const Stream& s) { bias_forward(s, {.bias = bias.on(s), .y = y.on(s)}); }, 0);
     }},
    {"bias_backward",
     [](RandomCall& t) {
       Shape shape = t.matrix();
       if (shape[1] < 40 && t.coin()) shape = shape.with_rows(9 * shape[0]);  // more tokens than chunks
       const TensorOnBoth &d_y = t.tensor(t.dtype, shape), &d_bias = t.tensor(t.wide, {shape[1]});
       t.compare([&](const Stream& s) { bias_backward(s, {.d_y = d_y.on(s), .d_bias = d_bias.on(s)}); }, 64);
     }},
    {"rms_norm_forward",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const bool with_x = t.coin(), with_sum = with_x && t.coin();
       const NormForm form = t.one_of({NormForm::inside, NormForm::outside});
       const TensorOnBoth &x = t.tensor(t.dtype, shape), &residual = t.tensor(t.wide, shape),
                          &sum = t.tensor(t.wide, shape), &weight = t.tensor(t.wide, {shape[1]}),
                          &y = t.tensor(t.dtype, shape), &rstd = t.tensor(t.wide, {shape[0]});
       t.compare(
           [&](const Stream& s) {
             rms_norm_forward(s, {.x = with_x ? x.on(s) : TensorView{},
                                  .residual = residual.on(s),
                                  .sum = with_sum ? sum.on(s) : TensorView{},
                                  .weight = weight.on(s),
                                  .form = form,
                                  .y = y.on(s),
                                  .rstd = rstd.on(s)});
           },
           32);
     }},
    {"rms_norm_backward",
     [](RandomCall& t) {
       Shape shape = t.matrix();
       if (shape[1] < 40 && t.coin()) shape = shape.with_rows(3 * shape[0]);  // more tokens than thread groups
       const NormForm form = t.one_of({NormForm::inside, NormForm::outside});
       const TensorOnBoth &residual = t.tensor(t.wide, shape), &weight = t.tensor(t.wide, {shape[1]}),
                          &rstd = t.tensor(t.wide, {shape[0]}, 0.5, 2), &d_y = t.tensor(t.dtype, shape),
                          &d_residual = t.tensor(t.wide, shape), &d_narrow = t.tensor(t.dtype, shape),
                          &d_weight = t.tensor(t.wide, {shape[1]});
       const double beta = t.one_of({1.0, 0.0});
       const bool narrow = t.coin();
       t.compare(
           [&](const Stream& s) {
             rms_norm_backward(s, {.residual = residual.on(s),
                                   .weight = weight.on(s),
                                   .rstd = rstd.on(s),
                                   .eps = 0.3,
                                   .form = form,
                                   .d_y = d_y.on(s),
                                   .beta = beta,
                                   .d_residual = d_residual.on(s),
                                   .d_narrow = narrow ? d_narrow.on(s) : TensorView{},
                                   .d_weight = d_weight.on(s)});
           },
           64);
     }},
    {"embedding_forward",
     [](RandomCall& t) {
       const Shape shape = t.matrix();
       const std::int64_t vocabulary = t.one_of<std::int64_t>({1, 4, 300});
       const TensorOnBoth &ids = t.ids(shape[0], 0, vocabulary), &weight = t.tensor(t.dtype, {vocabulary, shape[1]}),
                          &y = t.tensor(t.one_of({t.dtype, t.wide}), shape);
       t.compare(
           [&](const Stream& s) { embedding_forward(s, {.ids = ids.on(s), .weight = weight.on(s), .y = y.on(s)}); }, 0);
     }},
    {"embedding_backward",
     [](RandomCall& t) {
       Shape shape = t.matrix();
       if (shape[1] < 40 && t.coin()) shape = shape.with_rows(5 * shape[0]);  // more tokens than one chunk
       const std::int64_t vocabulary = t.one_of<std::int64_t>({1, 4, 300});
       const TensorOnBoth &ids = t.ids(shape[0], 0, vocabulary), &d_y = t.tensor(t.dtype, shape),
                          &d_weight = t.tensor(t.wide, {vocabulary, shape[1]});
       t.compare(
           [&](const Stream& s) {
             embedding_backward(s, {.ids = ids.on(s), .d_y = d_y.on(s), .d_weight = d_weight.on(s)});
           },
           256);
     }},
    {"cross_entropy",
     [](RandomCall& t) {
       const std::int64_t vocabulary = t.one_of<std::int64_t>({1, 4, 5, 31, 64, 512, 1001, 50280}),
                          tokens = vocabulary > 1001 ? t.below(8) : t.rows();
       const TensorOnBoth &logits = t.tensor(t.dtype, {tokens, vocabulary}, -8, 8),
                          &labels = t.ids(tokens, -1, vocabulary), &loss = t.tensor(t.wide, {tokens});
       const TensorOnBoth* const d_logits = t.one_of<const TensorOnBoth*>(
           {nullptr, &logits, &t.tensor(t.dtype, {tokens, vocabulary}),
            &t.tensor(t.dtype == DType::f32 ? DType::bf16 : t.dtype, {tokens, vocabulary})});
       const TensorOnBoth* const weights =
           t.one_of<const TensorOnBoth*>({nullptr, &t.tensor(DType::f32, {tokens}, 0, 1)});
       const double scale = weights != nullptr ? 1.3 : 1;
       t.compare(
           [&](const Stream& s) {
             cross_entropy(s, {.logits = logits.on(s),
                               .labels = labels.on(s),
                               .loss = loss.on(s),
                               .d_logits = d_logits != nullptr ? d_logits->on(s) : TensorView{},
                               .weights = weights != nullptr ? weights->on(s) : TensorView{},
                               .weight_scale = scale});
           },
           64);
     }},
    {"adamw",
     [](RandomCall& t) {
       const Shape shape{t.matrix().size()};
       const TensorOnBoth &gradient = t.tensor(t.wide, shape), &master = t.tensor(t.wide, shape),
                          &exp_avg = t.tensor(t.wide, shape), &exp_avg_sq = t.tensor(t.wide, shape, 0, 1),
                          &weights = t.tensor(t.dtype, shape), &factor = t.tensor(DType::f64, {1});
       const bool with_weights = t.coin();
       t.compare(
           [&](const Stream& s) {
             adamw(s, {.gradient = gradient.on(s),
                       .factor = factor.on(s),
                       .gradient_scale = 0.3,
                       .learning_rate = 0.01,
                       .weight_decay = 0.1,
                       .step = 7,
                       .master = master.on(s),
                       .exp_avg = exp_avg.on(s),
                       .exp_avg_sq = exp_avg_sq.on(s),
                       .weights = with_weights ? weights.on(s) : TensorView{}});
           },
           16);
     }},
    {"rope",
     [](RandomCall& t) {
       const std::int64_t tokens = t.rows();
       const Shape shape{tokens, t.one_of<std::int64_t>({1, 3, 8}), t.one_of<std::int64_t>({2, 6, 16, 64, 128})};
       const TensorOnBoth& x = t.tensor(t.dtype, shape);
       const TensorOnBoth& y = t.coin() ? x : t.tensor(t.dtype, shape);
       const bool inverse = t.coin(), stored = t.coin();
       const double scaling = t.one_of({1.0, 32.0});
       const TensorOnBoth& inv_freq = t.tensor(t.wide, {shape[2] / 2}, 0, 1);
       t.compare(
           [&](const Stream& s) {
             rope(s, {.x = x.on(s),
                      .segments = t.segments(tokens, s),
                      .angles = {.scaling = scaling, .inv_freq = stored ? inv_freq.on(s) : TensorView{}},
                      .inverse = inverse,
                      .y = y.on(s)});
           },
           t.dtype == DType::f64 ? 5000 : 8);  // in float64 the rounding of the angle is visible
     }},
    {"attention_delta",
     [](RandomCall& t) {
       const Shape shape{t.rows(), t.one_of<std::int64_t>({1, 3, 8}),
                         t.one_of<std::int64_t>({1, 5, 16, 64, 100, 128, 300})};
       const TensorOnBoth &y = t.tensor(t.one_of({t.dtype, t.wide}), shape), &d_y = t.tensor(t.dtype, shape),
                          &delta = t.tensor(t.wide, {shape[0], shape[1]});
       t.compare([&](const Stream& s) { attention_delta(s, {.y = y.on(s), .d_y = d_y.on(s), .delta = delta.on(s)}); },
                 64);
     }},
    {"fourier_transform",
     [](RandomCall& t) {
       const std::int64_t length = t.one_of<std::int64_t>({1, 2, 3, 7, 16, 100, 1009, 4096, 10000, 131072}),
                          blocks = t.below(length > 10000 ? 2 : 3);
       const TensorOnBoth& x = t.tensor(t.wide, {blocks * length, t.one_of<std::int64_t>({1, 3, 8, 33}), 2}, -1, 1, 2);
       const bool inverse = t.coin();
       t.compare([&](const Stream& s) { fourier_transform(s, {.length = length, .inverse = inverse, .x = x.on(s)}); },
                 64);
     }},
    {"rotate",
     [](RandomCall& t) {
       const std::int64_t rows = t.rows(), channels = t.one_of<std::int64_t>({1, 3, 8, 33, 300});
       const bool from_complex = t.coin(), to_complex = t.coin(), accumulate = t.coin();
       const auto shape = [&](bool complex) { return complex ? Shape{rows, channels, 2} : Shape{rows, channels}; };
       const TensorOnBoth& x = t.tensor(from_complex ? t.wide : t.dtype, shape(from_complex), -1, 1, 2);
       const TensorOnBoth& y = from_complex && to_complex && t.coin()
                                   ? x
                                   : t.tensor(to_complex ? t.wide : t.dtype, shape(to_complex), -1, 1, 2);
       const std::int64_t modulus = t.one_of<std::int64_t>({1, 8, 12, 1009, std::int64_t{1} << 40}),
                          first = t.below(100) - 50, step = t.below(2000) - 1000;
       t.compare(
           [&](const Stream& s) {
             rotate(s, {.x = x.on(s),
                        .first = first,
                        .step = step,
                        .modulus = modulus,
                        .alpha = 0.7,
                        .accumulate = accumulate,
                        .y = y.on(s)});
           },
           16);
     }},
    {"complex_multiply",
     [](RandomCall& t) {
       const std::int64_t rows = t.rows(), groups = t.one_of<std::int64_t>({1, 3, 8, 70}),
                          size = t.one_of<std::int64_t>({1, 1, 2, 5, 16});
       const Shape shape{rows, groups * size, 2};
       const TensorOnBoth &a = t.tensor(t.wide, shape, -1, 1, 2), &b = t.tensor(t.wide, {rows, groups, 2}, -1, 1, 2);
       const TensorOnBoth& y = t.coin() ? a : t.tensor(t.wide, shape, -1, 1, 2);
       const bool conjugate = t.coin();
       t.compare(
           [&](const Stream& s) {
             complex_multiply(s, {.a = a.on(s), .b = b.on(s), .conjugate = conjugate, .alpha = 0.7, .y = y.on(s)});
           },
           16);
     }},
    {"complex_multiply_reduce",
     [](RandomCall& t) {
       const std::int64_t rows = t.rows(), groups = t.one_of<std::int64_t>({1, 3, 8, 70}),
                          size = t.one_of<std::int64_t>({1, 2, 5, 16, 100});
       const Shape shape{rows, groups * size, 2};
       const TensorOnBoth &a = t.tensor(t.wide, shape, -1, 1, 2), &b = t.tensor(t.wide, shape, -1, 1, 2),
                          &y = t.tensor(t.wide, {rows, groups, 2}, -1, 1, 2);
       t.compare([&](const Stream& s) { complex_multiply_reduce(s, {.a = a.on(s), .b = b.on(s), .y = y.on(s)}); }, 64);
     }},
};

class Devices : public testing::TestWithParam<KernelCase> {
 protected:
  void SetUp() override {
    gpu_ = gpu_stream();
    if (!gpu_) GTEST_SKIP() << "no usable GPU";
  }

  Stream cpu_;
  std::optional<Stream> gpu_;
};

TEST_P(Devices, TheGpuEqualsTheCpuAndRepeatsItsBitsOverRandomShapes) {
  for (const DType dtype : floating_types)
    for (std::uint64_t seed = 0; seed < cases(60) && !HasFailure(); ++seed) {
      SCOPED_TRACE(testing::Message() << GetParam().name << " " << name_of(dtype) << " seed " << seed);
      RandomCall call(cpu_, *gpu_, dtype, seed);
      GetParam().run(call);
    }
}

TEST(DevicesLarge, ReachesOffsetsBeyond32Bits) {
  const std::optional<Stream> gpu = gpu_stream();
  if (!gpu) GTEST_SKIP() << "no usable GPU";
  const Shape shape{(std::int64_t{1} << 19) + 3,
                    4099};  // more than 2^31 elements and odd; used whole, and as columns of a wider matrix
  const Tensor x(*gpu, DType::bf16, shape), sum = Tensor::zeros(*gpu, DType::f64, {2});
  const TensorView inner = x.view().slice_columns(1, 4096);
  fill(*gpu, {.value = 1, .y = x});
  scale(*gpu, {.x = x, .alpha = 2, .y = x});
  sum_of_squares(*gpu, {.x = x, .sum = sum.view().slice_rows(0, 1)});
  multiply(*gpu, {.a = inner, .b = inner, .y = inner});
  sum_of_squares(*gpu, {.x = inner, .sum = sum.view().slice_rows(1, 1)});
  double sums[2] = {};
  gpu->copy(sums, sum.view().data, sizeof(sums));
  gpu->wait();
  EXPECT_EQ(sums[0], 4 * static_cast<double>(shape.size()));
  EXPECT_EQ(sums[1], 16 * static_cast<double>(inner.size()));
}

TEST(DevicesLarge, CopiesRowsFurtherApartThanTheLargestPitch) {
  const std::optional<Stream> gpu = gpu_stream();
  if (!gpu) GTEST_SKIP() << "no usable GPU";
  const Tensor x = Tensor::zeros(*gpu, DType::bf16, {2, (std::int64_t{1} << 30) + 5}),
               y = Tensor::zeros(*gpu, DType::bf16, {2, 3});
  const TensorView inner = x.view().slice_columns(1, 3);
  fill(*gpu, {.value = 1, .y = inner});
  const RowRange both{.from = 0, .to = 0, .count = 2};
  copy_rows(*gpu, {.x = inner, .ranges = {&both, 1}, .y = y});
  const Tensor sum = Tensor::zeros(*gpu, DType::f64, {1});
  sum_of_squares(*gpu, {.x = y, .sum = sum});
  double copied = 0;
  gpu->copy(&copied, sum.view().data, sizeof(copied));
  gpu->wait();
  EXPECT_EQ(copied, 6);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Devices, testing::ValuesIn(kernels),
                         [](const auto& of) { return std::string(of.param.name); });

}  // namespace
}  // namespace causeway::test
