#include <map>

#include "kernels/cuda/fft_conv/cufft.cuh"
#include "kernels/cuda/fft_conv/fft_conv_short.cuh"
#include "kernels/expect.hpp"

namespace causeway::cuda {
namespace {

constexpr int gather_threads = 1024, most_classes = 128;  // there are fewer than 128 lengths below 2^36

/// What the device needs to know of the classes: an argument of a kernel.
struct ClassTable {
  std::int64_t points[most_classes], first[most_classes];
};

/// A block finds one class's documents, in order.
__global__ void __launch_bounds__(gather_threads)
    gather_extents(SegmentsView segments, std::int64_t taps, ClassTable classes, Extent* to) {
  __shared__ int of_warp[gather_threads / 32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t points = classes.points[blockIdx.x];
  to += classes.first[blockIdx.x];
  for (std::int64_t base = 0; base < segments.count; base += gather_threads) {
    const std::int64_t s = base + threadIdx.x;
    Extent document{0, 0};
    if (s < segments.count) document = {segments.cu_seqlens[s], segments.cu_seqlens[s + 1] - segments.cu_seqlens[s]};
    const bool mine = s < segments.count && points_of(document.count, taps) == points;
    const unsigned in_warp = __ballot_sync(~0u, mine);
    if (lane == 0) of_warp[warp] = __popc(in_warp);
    __syncthreads();
    int before = __popc(in_warp & ((1u << lane) - 1)), all = 0;
    for (int w = 0; w < gather_threads / 32; ++w) {
      before += w < warp ? of_warp[w] : 0;
      all += of_warp[w];
    }
    if (mine) to[before] = document;
    to += all;
    __syncthreads();
  }
}

}  // namespace

std::vector<LengthClass> classes_of(const SegmentsView& segments, std::int64_t taps) {
  std::map<std::int64_t, LengthClass> classes;
  for (std::int64_t s = 0; s < segments.count; ++s) {
    const std::int64_t count = segments.host[s + 1] - segments.host[s];
    LengthClass& of = classes[points_of(count, taps)];
    ++of.documents;
    of.taps = std::max(of.taps, std::min(taps, count));
  }
  std::vector<LengthClass> result;
  for (auto& [points, of] : classes) {
    of.points = points;
    result.push_back(of);
  }
  ensure(std::ssize(result) <= most_classes, "documents of {} padded lengths, expected {} at most", result.size(),
         most_classes);
  return result;
}

Tensor extents_of(const Stream& stream, const SegmentsView& segments, std::int64_t taps,
                  const std::vector<LengthClass>& classes) {
  Tensor extents(stream, DType::i64, {segments.count, 2});
  ClassTable table{};
  std::int64_t first = 0;
  for (std::size_t i = 0; i < classes.size(); ++i) {
    table.points[i] = classes[i].points;
    table.first[i] = first;
    first += classes[i].documents;
  }
  gather_extents<<<grid_of(std::ssize(classes)), gather_threads, 0, native_of(stream)>>>(
      segments, taps, table, static_cast<Extent*>(extents.view().data));
  cuda_check(cudaGetLastError());
  return extents;
}

WorkspaceSizes::WorkspaceSizes(const std::vector<LengthClass>& classes, std::int64_t channels, std::int64_t group_size,
                               DType dtype) {
  for (const LengthClass& of : classes) {
    const Slices slices(of, channels);
    if (dtype == DType::f64 || !in_one_block(of.points))
      rows = std::max(rows, rows_together(slices.width * slices.together) * of.points);
    const std::int64_t groups = std::min((slices.width - 1) / group_size + 2, slices.width);
    filters = std::max(filters, rows_together(groups) * of.points);
  }
}

template <class R>
void Spectra<R>::run(const Stream& stream, std::int64_t points, std::int64_t rows, bool inverse) const {
  const std::int64_t together = rows_together(rows);
  stream.zero(data() + rows * points, (together - rows) * points * std::int64_t{sizeof(Complex<R>)});
  transform(stream, {.dtype = dtype_of<R>, .length = points, .count = together, .stride = 1, .distance = points},
            inverse, data());
}

template class Spectra<float>;
template class Spectra<double>;

void expect_fft_conv(const GatedConvInputs& in, TensorView taps) {
  const DType dtype = in.v.dtype, accumulator = accumulator_of(dtype);
  const auto parameter = [&](TensorView x) { return x.dtype == accumulator ? accumulator : dtype; };
  const std::int64_t D = in.v.columns(), G = taps.rows();
  const Shape rows{in.segments.tokens, D};
  expect("v", in.v, dtype, rows);
  expect_if_present("q", in.q, dtype, rows);
  expect_if_present("k", in.k, dtype, rows);
  expect_if_present("skip", in.skip, parameter(in.skip), {D});
  expect("taps", taps, parameter(taps), {G, taps.columns()});
  ensure(taps.columns() > 0 && (G == 0 ? D == 0 : D % G == 0), "taps {} for {} channels", taps.shape.to_string(), D);
  ensure(!in.segments.continues_from_left() && !in.segments.continues_to_right(),
         "fft_conv takes whole documents, but one reaches beyond the run");
}

}  // namespace causeway::cuda
