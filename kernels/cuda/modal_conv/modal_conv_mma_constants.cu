#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/functions.cuh"
#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma.cuh"

/// The constants of a channel, the state after a part of a unit, and what becomes of the parameters' parts.
namespace causeway::cuda::modal_mma {
namespace {

struct PrepareArgs {
  Filter filter;
  ChannelConstants* to;  ///< [channels]
  int channels;          ///< those of whole columns; beyond D all is zero
};

/// Computes a channel's constants in float64.
///
/// block: 4 warps
/// warp: one channel; a lane its operands, a place and a tap
__global__ void __launch_bounds__(128) prepare_kernel(const __grid_constant__ PrepareArgs args) {
  const int lane = static_cast<int>(threadIdx.x) % 32, channel = static_cast<int>(blockIdx.x * 4 + threadIdx.x / 32);
  if (channel >= args.channels) return;
  const bool exists = channel < args.filter.channels;
  // A lane computes the rate of one mode; the others get it by shuffles, which all lanes make together.
  const double own_rate = exists ? args.filter.rate(channel, lane % mode_count) : 1.0,
               own_residue = exists ? double{args.filter.residues(channel, lane % mode_count)} : 0.0;
  const auto rate = [&](int m) { return __shfl_sync(~0u, own_rate, m); };
  const auto residue = [&](int m) { return __shfl_sync(~0u, own_residue, m); };
  const auto power = [](double r, int n) { return ::exp(-r * n); };
  const auto split = [](double a, double b, std::uint32_t& high, std::uint32_t& low) {
    high = pack_bf16(static_cast<float>(a), static_cast<float>(b));
    low = pack_bf16(static_cast<float>(a - double{low_bf16(high)}), static_cast<float>(b - double{high_bf16(high)}));
  };
  ChannelConstants& to = args.to[channel];
  // 1. Operands of the sums.
  for (int half = 0; half < 2; ++half) {
    const double r = rate(lane / 4 + 8 * half);
    for (int h = 0; h < 2; ++h) {
      const int token = 2 * (lane % 4) + 8 * h;
      split(power(r, 15 - token), power(r, 14 - token), to.power[0][lane][2 * half + h],
            to.power[1][lane][2 * half + h]);
    }
  }
  // 2. Modes.
  const int place = lane % mode_count;
  const double mode_rate = rate(mode_at(place)), mode_residue = residue(mode_at(place));
  if (lane < mode_count) {
    for (int i = 0; i < 3; ++i) to.decay[i][lane] = static_cast<float>(power(mode_rate, 16 << i));
    to.out[lane] = static_cast<float>(mode_residue * power(mode_rate, 1));
  }
  // 3. Taps: this lane's has the lag lane - 7.
  double tap = 0;
  const int lag = lane - 7;
  for (int m = 0; m < mode_count; ++m) {
    const double r = rate(m), weight = residue(m);
    if (lag >= 0 && lag < tile_tokens) tap += weight * power(r, lag);
  }
  if (lag == 0 && exists) tap += double{args.filter.skip(channel)};
  const double before = __shfl_sync(~0u, tap, lane - 1);
  if (lane >= 1 && lane <= tap_words) split(tap, before, to.taps[0][lane - 1], to.taps[1][lane - 1]);
}

struct StateArgs {
  Rows<const bf16> k, v;
  Filter filter;
  SegmentsView documents;
  const float* state;     ///< [D, 16], by places: s before token `from`
  std::int64_t from, to;  ///< less than 256 tokens
  Rows<float> out;        ///< [D, 16]: s before token `to`
};

/// thread: one mode of one channel
__global__ void __launch_bounds__(256) state_kernel(const __grid_constant__ StateArgs args) {
  const std::int64_t at = std::int64_t{blockIdx.x} * 256 + threadIdx.x, channel = at / mode_count;
  if (channel >= args.filter.channels) return;
  const int m = static_cast<int>(at % mode_count);
  const std::int64_t start = args.documents.cu_seqlens[args.documents.count - 1];
  const bool starts = start >= args.from && start < args.to;
  float s = starts ? 0.0f : args.state[channel * mode_count + place_of(m)];
  const float loss = static_cast<float>(-::expm1(-args.filter.rate(channel, m)));
  for (std::int64_t t = starts ? start : args.from; t < args.to; ++t)
    s = s - loss * s + widened(args.k(t, channel)) * widened(args.v(t, channel));
  args.out(channel, m) = s;
}

struct FinishArgs {
  Filter filter;
  int ranges;
  std::int64_t stride;  ///< channels of whole columns
  const float* sums;    ///< as in BackwardArgs
  Rows<float> d_residues, d_log_rates, d_skip;
};

/// Adds the parts of the ranges in their order, in float64, and folds the lags to modes.
///
/// thread: one mode, and the lag of the same number, of one channel
__global__ void __launch_bounds__(256) finish_kernel(const __grid_constant__ FinishArgs args) {
  const int lane = static_cast<int>(threadIdx.x) % 32, m = lane % mode_count;
  const std::int64_t D = args.filter.channels, channel = (std::int64_t{blockIdx.x} * 256 + threadIdx.x) / mode_count;
  const bool exists = channel < D;
  // 1. A1, A2 of the mode, and W of the lag: register e of lane (g, j) is of lag 7 - g - 2 j - e % 2 + 8 (e / 2).
  double sum[2] = {0, 0}, own = 0;
  if (exists)
    for (std::int64_t range = 0; range < args.ranges; ++range) {
      const float* const sums = args.sums + (range * args.stride + channel) * sums_of_channel;
      // Lane (g, j) has A1 of place 4 j + g, or with g from 4 on A2 of place 4 j + g - 4.
      const int place = place_of(m), at_mode = place % 4 * 4 + place / 4;
      for (int n = 0; n < 2; ++n) sum[n] += double{sums[128 + 16 * n + at_mode]};
      for (int e = 0; e < 4; ++e)
        for (int j = 0; j < 4; ++j) {
          const int g = 7 - 2 * j - e % 2 + 8 * (e / 2) - m;
          if (g >= 0 && g < 8) own += double{sums[(4 * g + j) * 4 + e]};
        }
    }
  // 2. The lags of all lanes.
  const double rate = exists ? args.filter.rate(channel, m) : 1.0, lambda = ::exp(-rate);
  double power = 1, plain = 0, slope = 0;
  for (int lag = 0; lag < tile_tokens; ++lag) {
    const double W = __shfl_sync(~0u, own, lane - m + lag);
    plain += power * W;
    slope += lag * power * W;
    power *= lambda;
  }
  if (!exists) return;
  args.d_residues(channel, m) += static_cast<float>(lambda * sum[0] + plain);
  args.d_log_rates(channel, m) -=
      static_cast<float>(rate * (sum[1] + double{args.filter.residues(channel, m)} * slope));
  if (m == 0 && args.d_skip.data != nullptr) args.d_skip(channel, 0) += static_cast<float>(own);
}

int blocks_of_modes(std::int64_t channels) { return static_cast<int>(ceil_div(channels * mode_count, 256)); }

}  // namespace

void prepare(const Stream& stream, const Filter& filter, ChannelConstants* to, int channels) {
  launch_kernel<prepare_kernel>(stream, (channels + 3) / 4, 128, 0,
                                PrepareArgs{.filter = filter, .to = to, .channels = channels});
}

void write_state(const Stream& stream, const GatedConvInputs& in, const Filter& filter, const float* state,
                 std::int64_t from, std::int64_t to, TensorView out) {
  const StateArgs args{.k = Rows<const bf16>(in.k),
                       .v = Rows<const bf16>(in.v),
                       .filter = filter,
                       .documents = in.segments,
                       .state = state,
                       .from = from,
                       .to = to,
                       .out = Rows<float>(out)};
  launch_kernel<state_kernel>(stream, blocks_of_modes(filter.channels), 256, 0, args);
}

void add_parameters(const Stream& stream, const BackwardArgs& of, TensorView d_residues, TensorView d_log_rates,
                    TensorView d_skip) {
  const FinishArgs args{.filter = of.filter,
                        .ranges = of.plan.ranges,
                        .stride = std::int64_t{of.plan.columns} * block_channels,
                        .sums = of.sums,
                        .d_residues = Rows<float>(d_residues),
                        .d_log_rates = Rows<float>(d_log_rates),
                        .d_skip = Rows<float>(d_skip)};
  launch_kernel<finish_kernel>(stream, blocks_of_modes(of.filter.channels), 256, 0, args);
}

}  // namespace causeway::cuda::modal_mma
