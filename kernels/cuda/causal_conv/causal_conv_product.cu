#include "kernels/cuda/causal_conv/causal_conv_product.cuh"

#include "kernels/cuda/device/shared_memory.cuh"
#include "kernels/cuda/device/sums.cuh"

namespace causeway::cuda {
namespace {

using namespace product_strips;

constexpr std::int64_t most_of_k = 192;

/// Tokens of a strip, 8 m - 3. Longer strips compute fewer tokens twice and read b less often; more blocks fill the
/// last round of the device better. Depends on the shape only.
int strip_tokens_of(std::int64_t tokens, std::int64_t columns) {
  constexpr std::int64_t at_a_time = 132;  // blocks on an H200
  int best = 0;
  std::int64_t least = 0;
  for (int stages = 3; stages <= most_stages; ++stages) {
    const std::int64_t blocks = ceil_div(tokens, std::int64_t{groups * strips} * (stages * stage_rows - (Taps - 1))) *
                                columns,
                       cost = ceil_div(blocks, at_a_time) * (stages + 3);
    if (best == 0 || cost < least) best = stages, least = cost;
  }
  return best * stage_rows - (Taps - 1);
}

template <bool Silu, int slots, int eights>
void launch(const Stream& stream, const Arguments& arguments, std::int64_t blocks) {
  const auto kernel = backward<Silu, slots, eights>;
  constexpr int bytes = sizeof(BlockMemory<eights, slots>);
  allow_shared_memory(kernel, bytes);
  kernel<<<grid_of(blocks), block_threads, bytes, native_of(stream)>>>(arguments);
  cuda_check(cudaGetLastError());
}

/// Whether the current device runs code for sm_90a, and this file was compiled for it (CMakeLists.txt).
bool on_sm_90a() {
#if CAUSEWAY_SM_90A
  int device = 0, major = 0, minor = 0;
  cuda_check(cudaGetDevice(&device));
  cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  cuda_check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return major == 9 && minor == 0;
#else
  return false;
#endif
}

}  // namespace

bool has_product_kernel(const CausalConvBackward& args) {
  const auto& [a, b] = args.d_y_product;
  return a.present() && args.x.dtype == DType::bf16 && args.weight.columns() == Taps &&
         args.activation == Activation::silu && !args.halo.present() && !args.d_halo.present() &&
         args.weight.rows() % block_channels == 0 && b.rows() > 0 && b.rows() <= most_of_k &&
         aligned({args.x, args.d_y, args.d_x, a, b}, 16) && on_sm_90a();
}

void causal_conv_product_backward(const Stream& stream, const CausalConvBackward& args) {
  const auto& [a, b] = args.d_y_product;
  const std::int64_t tokens = args.segments.tokens, channels = args.weight.rows();
  if (tokens == 0 || channels == 0) return;
  const auto data = [](TensorView x) { return x.present() ? static_cast<const bf16*>(x.data) : nullptr; };
  const std::int64_t columns = channels / block_channels;
  const int strip = strip_tokens_of(tokens, columns);
  const std::int64_t blocks = ceil_div(tokens, std::int64_t{groups * strips} * strip);
  const Tensor partial(stream, DType::f32, {blocks * groups, Taps + 1, channels});
  auto* const parts = static_cast<float*>(partial.view().data);
  const Arguments arguments{.x = data(args.x),
                            .d_y = data(args.d_y),
                            .weight = data(args.weight),
                            .bias = data(args.bias),
                            .a = data(a),
                            .b = data(b),
                            .d_x = static_cast<bf16*>(args.d_x.data),
                            .x_stride = args.x.row_stride,
                            .d_y_stride = args.d_y.row_stride,
                            .d_x_stride = args.d_x.row_stride,
                            .weight_stride = args.weight.row_stride,
                            .bias_stride = args.bias.row_stride,
                            .a_stride = a.row_stride,
                            .b_stride = b.row_stride,
                            .segments = args.segments,
                            .channels = channels,
                            .eights = static_cast<int>(b.rows() / 8),
                            .strip_tokens = strip,
                            .parts = parts};
  const auto run = b.rows() <= 80 ? launch<true, 4, 10> : b.rows() <= 160 ? launch<true, 3, 20> : launch<true, 3, 24>;
  run(stream, arguments, blocks * columns);
  add_parts_by_warps(stream, parts, blocks * groups, Taps + 1, channels, WeightTarget<float>(args, Taps + 1));
}

}  // namespace causeway::cuda
