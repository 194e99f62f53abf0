#include <algorithm>

#include "kernels/cuda/blocked_conv_tile.cuh"

// The tensor-core form. The last Toeplitz reach of tiles of the product stands in registers, 4 a tile, and so does the
// filter: a lane's registers of (H_b) depend on 16 b + i - j alone, so neighbouring blocks share them, 19 for 128 taps.
// Where a document begins, the tiles before are dropped by writing zeros, and a tile that holds an edge is multiplied
// once for every document in it, each time from that document's tokens only: what is inside of a document is mask-free,
// and nothing of one document ever meets another's. Within one, a NaN or an infinity may reach up to 15 tokens ahead of
// itself and as many beyond the filter, where H_b holds zeros.
//
// Taps in float32 are rounded to bf16 for the product, as q⊙d_y is; sums, skip and gates are in float32.
//
// Floor: bytes, blocked_conv.cuh. At 128 taps 18 products of 4,096 flops an element of 256: 0.13 ms of L 65536, D 4096.
namespace causeway::cuda {
namespace {

/// One walk: x = a⊙b, to the left of the run the halo's rows; y = gate⊙(h∗x + skip⊙x), and the same with the other gate.
struct StripConv {
  Rows<const bf16> a, b, halo, gate, other_gate;
  Rows<bf16> y, other, d_halo;  // d_halo: where the walk to the left goes on
  Parameter<bf16> taps, skip;
  SegmentsView segments;
  std::int64_t group_tiles, length;
  StripPlan plan;
  float* skips;  // [strips][channels]: Σ_t x (gate⊙other_gate), or null
};

template <int Blocks>
struct Filter {
  std::uint32_t pairs[2 * Blocks + 1];

  __device__ Filter(const StripConv& conv, std::int64_t group, int lane) {
#pragma unroll
    for (int i = 0; i < 2 * Blocks + 1; ++i) {
      const int lag = 8 * (i - 1) + lane / 4 - 2 * (lane % 4);
      pairs[i] = pair_of(tap(conv, group, lag), tap(conv, group, lag - 1));
    }
  }
  /// sum += x H_block.
  __device__ void multiply(float (&sum)[2][4], const std::uint32_t (&x)[4], int block) const {
    multiply_add(sum[0], x, pairs[2 * block + 1], pairs[2 * block]);
    multiply_add(sum[1], x, pairs[2 * block + 2], pairs[2 * block + 1]);
  }

 private:
  __device__ static float tap(const StripConv& conv, std::int64_t group, int lag) {
    return lag >= 0 && lag < conv.length ? conv.taps(group, lag) : 0.0f;
  }
};

/// The tokens [low, high) of a tile, zeros elsewhere.
__device__ void keep_tokens(std::uint32_t (&to)[4], const std::uint32_t (&x)[4], int low, int high, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int token = 8 * half + 2 * (lane % 4);
    const std::uint32_t mask = (token >= low && token < high ? 0xffffu : 0u) | (token + 1 >= low && token + 1 < high ? 0xffff0000u : 0u);
    to[2 * half] = x[2 * half] & mask;
    to[2 * half + 1] = x[2 * half + 1] & mask;
  }
}

template <Towards towards, int Blocks>
__global__ void __launch_bounds__(32 * conv_warps, towards == Towards::right ? 4 : 3) convolve_strip(const StripConv conv) {
  constexpr bool right = towards == Towards::right;
  constexpr int tensors = right ? 3 : 4, stages = right ? 8 : 6;
  __shared__ alignas(128) unsigned char memory[conv_warps][stages][tensors][conv_tile_bytes];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const std::int64_t strip = blockIdx.x / conv.plan.across(), channel_tile = blockIdx.x % conv.plan.across() * conv_warps + warp;
  if (channel_tile >= conv.plan.channel_tiles) return;
  const std::int64_t channel = channel_tile * conv_tile, tokens = conv.segments.tokens;
  const std::int64_t low = strip * conv.plan.strip_tiles, high = min(low + conv.plan.strip_tiles, conv.plan.tiles);

  // The walk: some tiles that only fill the registers, then those whose outputs are the strip's.
  const std::int64_t reach = conv_blocks(conv.length) - 1;
  const std::int64_t first_out = right ? low : high - 1;
  const std::int64_t first = right ? max(low - reach, conv.halo.data != nullptr ? -reach : std::int64_t{0}) : min(high - 1 + reach, conv.plan.tiles - 1);
  const std::int64_t last = right ? high - 1 : low == 0 && conv.d_halo.data != nullptr ? -reach : low;
  const int warm_up = static_cast<int>(right ? first_out - first : first - first_out);
  const int count = static_cast<int>(right ? last - first : first - last) + 1;
  const auto tile_at = [&](int i) { return right ? first + i : first - i; };

  const Filter<Blocks> filter(conv, channel_tile / conv.group_tiles, lane);
  const std::int64_t of_lane = channel + lane / 4;
  const float skip[2] = {conv.skip(of_lane), conv.skip(of_lane + 8)};
  Edges<towards> edges(conv.segments, first, lane);
  const std::int64_t start = conv.segments.cu_seqlens[0];

  // What this lane copies of each tile, and what it reads of each of a tile's matrices.
  const int row = lane / 2, half = lane % 2, token_read = lane % 8 + lane / 16 * 8;
  const unsigned base = shared_address(memory[warp][0][0]), copied = place_in_tile(row, half),
                 read = place_in_tile(right ? token_read : conv_tile - 1 - token_read, lane / 8 % 2);
  const std::int64_t column = channel + half * 8;
  const auto slot = [&](int i, int tensor) { return base + static_cast<unsigned>((i % stages * tensors + tensor) * conv_tile_bytes); };
  const auto fetch = [&](int i) {
    if (i < count) {
      const std::int64_t t = tile_at(i) * conv_tile + row;
      if (right && t < 0) {
        const bool there = t > -conv.length && t >= start;
        copy_ahead(slot(i, 1) + copied, &conv.halo(there ? conv.length - 1 + t : 0, column), there);
      } else {
        const bool there = t >= 0 && t < tokens;
        const std::int64_t at = there ? t : 0;
        if (conv.a.data != nullptr) copy_ahead(slot(i, 0) + copied, &conv.a(at, column), there);
        copy_ahead(slot(i, 1) + copied, &conv.b(at, column), there);
        if (i >= warm_up && conv.gate.data != nullptr) copy_ahead(slot(i, 2) + copied, &conv.gate(at, column), there);
        if (!right && i >= warm_up && conv.other_gate.data != nullptr) copy_ahead(slot(i, 3) + copied, &conv.other_gate(at, column), there);
      }
    }
    close_copies();
  };
#pragma unroll 1
  for (int i = 0; i < stages - 1; ++i) fetch(i);

  /// Rows of this tile from their place in shared memory to `to`.
  const auto write_rows = [&](unsigned from, const Rows<bf16>& to, std::int64_t at, bool there) {
    if (!there) return;
    uint4 word;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w) : "r"(from + copied) : "memory");
    *reinterpret_cast<uint4*>(&to(at, column)) = word;
  };

  std::uint32_t ring[Blocks][4] = {};
  float skip_sums[2] = {};
  for (int i = 0; i < count;) {
#pragma unroll
    for (int c = 0; c < Blocks; ++c) {
      if (i >= count) break;
      wait_for_copies<stages - 2>();
      __syncwarp();
      fetch(i + stages - 1);
      const std::int64_t tile = tile_at(i);
      const bool before = tile < 0, writes = i >= warm_up;
      std::uint32_t x[4], own[4];
      load_matrices<true>(x, slot(i, 1) + read);
      if (conv.a.data != nullptr && !(right && before)) {
        std::uint32_t a[4];
        load_matrices<true>(a, slot(i, 0) + read);
#pragma unroll
        for (int j = 0; j < 4; ++j) x[j] = pair_product(a[j], x[j]);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) own[j] = x[j];
      const unsigned starts = edges.of_tile(tile);
      if (starts != 0) keep_tokens(own, x, 0, __ffs(static_cast<int>(starts)) - 1, lane);
      float sum[2][4] = {};
      if (writes) {
        filter.multiply(sum, own, 0);
#pragma unroll
        for (int b = 1; b < Blocks; ++b) filter.multiply(sum, ring[(c + Blocks - b) % Blocks], b);
      }
      if (starts != 0) {
        for_each_start(starts, [&](int from, int to) {
          keep_tokens(own, x, from, to, lane);
          float alone[2][4] = {};
          filter.multiply(alone, own, 0);
#pragma unroll
          for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              const int token = 8 * n + 2 * (lane % 4) + e % 2;
              if (token >= from && token < to) sum[n][e] = alone[n][e];
            }
        });
#pragma unroll
        for (int b = 0; b < Blocks; ++b)
#pragma unroll
          for (int j = 0; j < 4; ++j) ring[b][j] = 0;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) ring[c][j] = own[j];  // the last document's tokens
      if (writes) {
        if (conv.skip.present())
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            sum[j / 2][j % 2 * 2] += skip[j % 2] * lower(x[j]);
            sum[j / 2][j % 2 * 2 + 1] += skip[j % 2] * upper(x[j]);
          }
        const std::int64_t t = tile * conv_tile + row;
        std::uint32_t gate[4] = {}, result[4];
        const auto gated = [&](const bf16* by) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const float first_sum = sum[j / 2][j % 2 * 2], second_sum = sum[j / 2][j % 2 * 2 + 1];
            result[j] = by == nullptr ? pair_of(first_sum, second_sum) : pair_of(lower(gate[j]) * first_sum, upper(gate[j]) * second_sum);
          }
        };
        if (!right && before) {
          gated(nullptr);
          store_matrices_transposed(slot(i, 2) + read, result);
          __syncwarp();
          write_rows(slot(i, 2), conv.d_halo, conv.length - 1 + t, t > -conv.length);
        } else {
          const bool there = t < tokens;
          if (conv.gate.data != nullptr) load_matrices<true>(gate, slot(i, 2) + read);
          if (conv.y.data != nullptr) gated(conv.gate.data);
          std::uint32_t other[4] = {};
          if constexpr (!right) {
            if (conv.other_gate.data != nullptr) load_matrices<true>(other, slot(i, 3) + read);
            if (conv.skips != nullptr)
#pragma unroll
              for (int j = 0; j < 4; ++j) {
                const std::uint32_t product = conv.other_gate.data == nullptr ? gate[j] : pair_product(gate[j], other[j]);
                skip_sums[j % 2] += lower(x[j]) * lower(product) + upper(x[j]) * upper(product);
              }
          }
          __syncwarp();  // all have read what is written over
          if (conv.y.data != nullptr) store_matrices_transposed(slot(i, 2) + read, result);
          if constexpr (!right) {
#pragma unroll
            for (int j = 0; j < 4; ++j) gate[j] = other[j];
            gated(conv.other_gate.data);
            store_matrices_transposed(slot(i, 3) + read, result);
          }
          __syncwarp();
          if (conv.y.data != nullptr) write_rows(slot(i, 2), conv.y, t, there);
          if constexpr (!right) write_rows(slot(i, 3), conv.other, t, there);
        }
      }
      ++i;
    }
  }
  if (!right && conv.skips != nullptr) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      skip_sums[j] += __shfl_xor_sync(~0u, skip_sums[j], 1);
      skip_sums[j] += __shfl_xor_sync(~0u, skip_sums[j], 2);
      if (lane % 4 == 0) conv.skips[strip * conv.plan.channel_tiles * conv_tile + of_lane + 8 * j] = skip_sums[j];
    }
  }
}

template <Towards towards>
void convolve(const Stream& stream, const StripConv& conv) {
  with_conv_blocks(conv.length, [&]<int Blocks> {
    convolve_strip<towards, Blocks><<<conv.plan.grid(), dim3(32, conv_warps), 0, native_of(stream)>>>(conv);
    cuda_check(cudaGetLastError());
  });
}

template <class Args>
bool suits(const Args& args, std::initializer_list<TensorView> others) {
  const GatedConvInputs& in = args.in;
  return in.v.dtype == DType::bf16 && in.segments.tokens > 0 && args.taps.columns() <= most_conv_taps &&
         in.v.columns() / args.taps.rows() % conv_tile == 0 && aligned({in.q, in.k, in.v, args.halo}, 16) && aligned(others, 16);
}

}  // namespace

bool suits_tensor_cores(const BlockedConvForward& args) { return suits(args, {args.y}); }
bool suits_tensor_cores(const BlockedConvBackward& args) {
  const GatedConvGradients& g = args.gradients;
  return suits(args, {g.d_y, g.d_q, g.d_k, g.d_v, args.d_halo});
}

void tensor_core_conv_forward(const Stream& stream, const BlockedConvForward& args) {
  const auto input = rows_of<const bf16>;
  const auto output = rows_of<bf16>;
  convolve<Towards::right>(stream, {.a = input(args.in.k),
                                    .b = input(args.in.v),
                                    .halo = input(args.halo),
                                    .gate = input(args.in.q),
                                    .other_gate = input({}),
                                    .y = output(args.y),
                                    .other = output({}),
                                    .d_halo = output({}),
                                    .taps = Parameter<bf16>(args.taps),
                                    .skip = Parameter<bf16>(args.in.skip),
                                    .segments = args.in.segments,
                                    .group_tiles = args.in.v.columns() / args.taps.rows() / conv_tile,
                                    .length = args.taps.columns(),
                                    .plan = StripPlan(args.in.segments.tokens, args.in.v.columns()),
                                    .skips = nullptr});
}

void tensor_core_conv_backward(const Stream& stream, const BlockedConvBackward& args) {
  const GatedConvInputs& in = args.in;
  const GatedConvGradients& to = args.gradients;
  const StripPlan plan(in.segments.tokens, in.v.columns());
  if (in.q.present()) tensor_core_conv_forward(stream, {.in = {.q = to.d_y, .k = in.k, .v = in.v, .skip = in.skip, .segments = in.segments}, .halo = args.halo, .taps = args.taps, .y = to.d_q});

  const auto input = rows_of<const bf16>;
  const auto output = rows_of<bf16>;
  const Tensor skips = in.skip.present() ? Tensor(stream, DType::f32, {plan.strips, in.v.columns()}) : Tensor();
  auto* const skip_sums = in.skip.present() ? static_cast<float*>(skips.view().data) : nullptr;
  convolve<Towards::left>(stream, {.a = input(in.q),
                                   .b = input(to.d_y),
                                   .halo = input({}),
                                   .gate = input(in.k.present() || in.skip.present() ? in.v : TensorView{}),
                                   .other_gate = input(in.k),
                                   .y = output(in.k.present() ? to.d_k : TensorView{}),
                                   .other = output(to.d_v),
                                   .d_halo = output(args.taps.columns() > 1 ? args.d_halo : TensorView{}),
                                   .taps = Parameter<bf16>(args.taps),
                                   .skip = Parameter<bf16>(in.skip),
                                   .segments = in.segments,
                                   .group_tiles = in.v.columns() / args.taps.rows() / conv_tile,
                                   .length = args.taps.columns(),
                                   .plan = plan,
                                   .skips = skip_sums});
  const Tensor partial = tensor_core_lags(stream, args, plan);
  add_filter_parts<float>(stream, {.partial = static_cast<const float*>(partial.view().data), .parts = plan.strips, .columns = plan.channel_tiles, .skips = skip_sums, .skip_step = in.v.columns()}, args.d_taps, in.skip.present() ? to.d_skip : TensorView{});
}

}  // namespace causeway::cuda
