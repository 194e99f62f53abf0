/// How long each GPU kernel takes at a large shape, beside the time its fewest bytes take at 4.8 TB/s (an H200's
/// memory) and at the rate of a copy. ninja bench_cuda_kernels, then run it on a machine with a GPU.

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/adamw.hpp"
#include "kernels/attention.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/cuda/check.cuh"
#include "kernels/embedding.hpp"
#include "kernels/fourier.hpp"
#include "kernels/gemm.hpp"
#include "kernels/norm.hpp"
#include "kernels/random.hpp"
#include "kernels/reorder.hpp"

namespace causeway {
namespace {

template <class T>
__global__ void draw(T* to, std::int64_t count, double low, double high, std::uint32_t seed) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    const auto word = philox({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), seed, 0}, {1, 2});
    const double value = low + (high - low) * (word[0] + 0.5) * 0x1p-32;
    if constexpr (std::is_same_v<T, std::int32_t>)
      to[i] = static_cast<T>(value);
    else
      to[i] = T(static_cast<float>(value));
  }
}

class Bench {
 public:
  Tensor tensor(DType dtype, Shape shape, double low = -1, double high = 1) {
    Tensor made(stream, dtype, shape);
    const auto fill_with = [&]<class T>() {
      draw<T><<<4096, 256, 0, native_of(stream)>>>(static_cast<T*>(made.view().data), shape.size(), low, high, ++seed_);
      cuda_check(cudaGetLastError());
    };
    if (dtype == DType::bf16)
      fill_with.template operator()<bf16>();
    else if (dtype == DType::f32)
      fill_with.template operator()<float>();
    else if (dtype == DType::i32)
      fill_with.template operator()<std::int32_t>();
    else
      stream.zero(made.view().data, made.view().bytes());
    return made;
  }

  double milliseconds(const std::function<void()>& call) {
    cudaEvent_t begin = nullptr, end = nullptr;
    cuda_check(cudaEventCreate(&begin));
    cuda_check(cudaEventCreate(&end));
    std::vector<float> times;
    for (int i = 0; i < 14; ++i) {
      cuda_check(cudaEventRecord(begin, native_of(stream)));
      call();
      cuda_check(cudaEventRecord(end, native_of(stream)));
      cuda_check(cudaEventSynchronize(end));
      float time = 0;
      cuda_check(cudaEventElapsedTime(&time, begin, end));
      if (i >= 3) times.push_back(time);
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    std::sort(times.begin(), times.end());
    return static_cast<double>(times[times.size() / 2]);
  }

  void report(const char* name, const char* shape, double bytes, const std::function<void()>& call) {
    const double time = milliseconds(call), floor = bytes / 4.8e9;
    if (copy_rate_ == 0) copy_rate_ = bytes / time;
    fmt::print("{:34} {:26} {:8.3f} ms  floor {:7.3f}  x{:5.2f}  {:6.0f} GB/s  {:4.0f} % of the copy\n", name, shape,
               time, floor, time / floor, bytes / time / 1e6, 100 * bytes / time / copy_rate_);
  }
  void report_operations(const char* name, const char* shape, double operations, const std::function<void()>& call) {
    const double time = milliseconds(call);
    fmt::print("{:34} {:26} {:8.3f} ms  {:7.1f} TFLOP/s\n", name, shape, time, operations / time / 1e9);
  }

  Stream stream{Device::cuda};

 private:
  std::uint32_t seed_ = 0;
  double copy_rate_ = 0;  // bytes a millisecond
};

constexpr std::int64_t tokens = 65536, channels = 4096, elements = tokens * channels;
constexpr double E = static_cast<double>(elements);

void elementwise(Bench& b) {
  const Stream& s = b.stream;
  const Tensor x = b.tensor(DType::bf16, {tokens, channels}), y = b.tensor(DType::bf16, {tokens, channels}),
               z = b.tensor(DType::bf16, {tokens, channels}), u = b.tensor(DType::bf16, {tokens, channels}),
               v = b.tensor(DType::bf16, {tokens, channels});
  const char* const shape = "bf16 [65536, 4096]";
  b.report("cudaMemcpyAsync", shape, 4 * E, [&] { s.copy(y.view().data, x.view().data, x.view().bytes()); });
  b.report("scale", shape, 4 * E, [&] { scale(s, {.x = x, .alpha = 0.5, .y = y}); });
  b.report("fill", shape, 2 * E, [&] { fill(s, {.value = 0.5, .y = y}); });
  b.report("multiply", shape, 6 * E, [&] { multiply(s, {.a = x, .b = z, .y = y}); });
  for (const Activation a : {Activation::silu, Activation::gelu}) {
    b.report(a == Activation::silu ? "gated_activation_forward silu" : "gated_activation_forward gelu", shape, 6 * E,
             [&] { gated_activation_forward(s, {.a = x, .b = z, .activation = a, .y = y}); });
    b.report(a == Activation::silu ? "gated_activation_backward silu" : "gated_activation_backward gelu", shape, 10 * E,
             [&] { gated_activation_backward(s, {.a = x, .b = z, .activation = a, .d_y = y, .d_a = u, .d_b = v}); });
  }
  b.report("multiply, odd columns of wider", "bf16 [65536, 4093]", 6 * E, [&] {
    multiply(s, {.a = x.view().slice_columns(1, 4093),
                 .b = z.view().slice_columns(1, 4093),
                 .y = y.view().slice_columns(1, 4093)});
  });
  b.report("transpose", shape, 4 * E, [&] { transpose(s, {.x = x, .y = y.view().reshaped({channels, tokens})}); });
  const Tensor sum = b.tensor(DType::f64, {1});
  b.report("sum_of_squares", shape, 2 * E, [&] { sum_of_squares(s, {.x = x, .sum = sum}); });
  const TensorView heads = x.view().reshaped({tokens, 32, 128}), other = y.view().reshaped({tokens, 32, 128});
  const Tensor delta = b.tensor(DType::f32, {tokens, 32}), cu_seqlens(s, DType::i64, {3});
  const std::int64_t ends[] = {0, 1000, tokens};
  s.copy(cu_seqlens.view().data, ends, sizeof(ends));
  b.report("rope", "bf16 [65536, 32, 128]", 4 * E, [&] {
    rope(s, {.x = heads, .segments = {cu_seqlens.view().row<std::int64_t>(0), 2, tokens}, .y = other});
  });
  b.report("attention_delta", "bf16 [65536, 32, 128]", 4 * E,
           [&] { attention_delta(s, {.y = heads, .d_y = other, .delta = delta}); });
  const Tensor labels = b.tensor(DType::i32, {tokens}, 0, 4), loss = b.tensor(DType::f32, {tokens});
  b.report("cross_entropy", "bf16 [65536, 4096]", 4 * E,
           [&] { cross_entropy(s, {.logits = x, .labels = labels, .loss = loss, .d_logits = y}); });
  const std::int64_t text = 50280, few = 5000;
  b.report("cross_entropy", "bf16 [5000, 50280]", 4.0 * few * text, [&] {
    cross_entropy(s, {.logits = view_of(x.view().data, DType::bf16, {few, text}),
                      .labels = labels.view().slice_rows(0, few),
                      .loss = loss.view().slice_rows(0, few),
                      .d_logits = view_of(y.view().data, DType::bf16, {few, text})});
  });
  b.report("cross_entropy", "bf16 [65536, 512]", 4.0 * tokens * 512, [&] {
    cross_entropy(s, {.logits = view_of(x.view().data, DType::bf16, {tokens, 512}),
                      .labels = labels,
                      .loss = loss,
                      .d_logits = view_of(y.view().data, DType::bf16, {tokens, 512})});
  });
}

void wide(Bench& b) {
  const Stream& s = b.stream;
  const Tensor x = b.tensor(DType::bf16, {tokens, channels}), y = b.tensor(DType::bf16, {tokens, channels}),
               residual = b.tensor(DType::f32, {tokens, channels}), other = b.tensor(DType::f32, {tokens, channels}),
               weight = b.tensor(DType::f32, {channels}), d_weight = b.tensor(DType::f32, {channels}),
               rstd = b.tensor(DType::f32, {tokens});
  const char* const shape = "bf16 [65536, 4096]";
  b.report("rms_norm_forward with x", shape, 12 * E,
           [&] { rms_norm_forward(s, {.x = x, .residual = residual, .weight = weight, .y = y, .rstd = rstd}); });
  b.report("rms_norm_backward", shape, 14 * E, [&] {
    rms_norm_backward(
        s, {.residual = residual, .weight = weight, .rstd = rstd, .d_y = y, .d_residual = other, .d_weight = d_weight});
  });
  const std::int64_t narrow = 512, many = elements / narrow;
  const TensorView small = weight.view().slice_rows(0, narrow), d_small = d_weight.view().slice_rows(0, narrow);
  const Tensor many_rstd = b.tensor(DType::f32, {many});
  b.report("rms_norm_forward with x", "bf16 [524288, 512]", 12 * E, [&] {
    rms_norm_forward(s, {.x = x.view().reshaped({many, narrow}),
                         .residual = residual.view().reshaped({many, narrow}),
                         .weight = small,
                         .y = y.view().reshaped({many, narrow}),
                         .rstd = many_rstd});
  });
  b.report("rms_norm_backward", "bf16 [524288, 512]", 14 * E, [&] {
    rms_norm_backward(s, {.residual = residual.view().reshaped({many, narrow}),
                          .weight = small,
                          .rstd = many_rstd,
                          .d_y = y.view().reshaped({many, narrow}),
                          .d_residual = other.view().reshaped({many, narrow}),
                          .d_weight = d_small});
  });
  b.report("scale", "f32 to bf16 [65536, 4096]", 6 * E, [&] { scale(s, {.x = residual, .y = x}); });
  b.report("transpose", "f32 [65536, 4096]", 8 * E, [&] {
    transpose(s, {.x = residual, .y = other.view().reshaped({channels, tokens})});
  });
  const Tensor sum = b.tensor(DType::f64, {1});
  b.report("sum_of_squares", "f32 [65536, 4096]", 4 * E, [&] { sum_of_squares(s, {.x = residual, .sum = sum}); });
  for (const std::int64_t vocabulary : {4, 50280}) {
    const Tensor ids = b.tensor(DType::i32, {tokens}, 0, static_cast<double>(vocabulary)),
                 table = b.tensor(DType::bf16, {vocabulary, channels}),
                 d_table = b.tensor(DType::f32, {vocabulary, channels});
    const double seen = (vocabulary == 4 ? 4.0 : 36600.0) * channels;  // what occurs of the table
    const char* const of = vocabulary == 4 ? "4 ids, bf16 [65536, 4096]" : "50280 ids, [65536, 4096]";
    b.report("embedding_forward to f32", of, 4 * E + 2 * seen,
             [&] { embedding_forward(s, {.ids = ids, .weight = table, .y = residual}); });
    b.report("embedding_backward", of, 2 * E + 8 * seen,
             [&] { embedding_backward(s, {.ids = ids, .d_y = x, .d_weight = d_table}); });
  }
}

void spectra(Bench& b) {
  const Stream& s = b.stream;
  const std::int64_t rows = tokens / 2;
  const Tensor x = b.tensor(DType::f32, {rows, channels, 2}), w = b.tensor(DType::f32, {rows, channels, 2}),
               y = b.tensor(DType::f32, {rows, channels, 2}), g = b.tensor(DType::f32, {rows, 256, 2});
  const char* const shape = "c32 [32768, 4096]";
  b.report("rotate", shape, 8 * E, [&] { rotate(s, {.x = x, .step = 1, .modulus = rows, .y = y}); });
  b.report("complex_multiply", shape, 12 * E, [&] { complex_multiply(s, {.a = x, .b = w, .y = y}); });
  b.report("complex_multiply, 256 groups", shape, 8 * E + E / 4,
           [&] { complex_multiply(s, {.a = x, .b = g, .y = y}); });
  b.report("complex_multiply_reduce, 256", shape, 8 * E + E / 2,
           [&] { complex_multiply_reduce(s, {.a = x, .b = w, .y = g}); });
  for (const std::int64_t length : {1024, 8192, 32768})
    b.report("fourier_transform",
             length == 1024   ? "32 of 1024 x 4096"
             : length == 8192 ? "4 of 8192 x 4096"
                              : "32768 x 4096",
             8 * E, [&] { fourier_transform(s, {.length = length, .x = x}); });
}

void parameters(Bench& b) {
  const std::int64_t count = 512 << 20;
  const Tensor gradient = b.tensor(DType::f32, {count}), master = b.tensor(DType::f32, {count}),
               m = b.tensor(DType::f32, {count}), v = b.tensor(DType::f32, {count}, 0, 1);
  b.report("adamw", "f32 [536870912]", 28.0 * count, [&] {
    adamw(b.stream, {.gradient = gradient,
                     .learning_rate = 1e-3,
                     .weight_decay = 0.1,
                     .master = master,
                     .exp_avg = m,
                     .exp_avg_sq = v});
  });
}

void products(Bench& b) {
  const std::int64_t n = 8192;
  for (const DType dtype : {DType::bf16, DType::f32}) {
    const Tensor x = b.tensor(dtype, {n, n}), y = b.tensor(dtype, {n, n}), z = b.tensor(dtype, {n, n});
    b.report_operations("gemm", dtype == DType::bf16 ? "bf16 8192^3" : "f32 8192^3", 2.0 * n * n * n,
                        [&] { gemm(b.stream, {.a = x, .b = y, .c = z}); });
    b.report_operations("gemm, b transposed", dtype == DType::bf16 ? "bf16 8192^3" : "f32 8192^3", 2.0 * n * n * n,
                        [&] { gemm(b.stream, {.a = x, .b = y, .transpose_b = true, .c = z}); });
  }
  const Tensor x = b.tensor(DType::bf16, {tokens, channels}), d_y = b.tensor(DType::bf16, {tokens, channels}),
               d_w = b.tensor(DType::f32, {channels, channels});
  b.report_operations("gemm, weight gradient", "bf16 4096x65536x4096 to f32", 2.0 * tokens * channels * channels,
                      [&] { gemm(b.stream, {.a = d_y, .b = x, .transpose_a = true, .beta = 1, .c = d_w}); });
}

}  // namespace
}  // namespace causeway

int main() {
  causeway::Bench bench;
  causeway::elementwise(bench);
  causeway::wide(bench);
  causeway::spectra(bench);
  causeway::parameters(bench);
  causeway::products(bench);
}
