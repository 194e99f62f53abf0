#include <map>

#include "kernels/cuda/fft_conv/cufft.cuh"
#include "kernels/cuda/fft_conv/fft_conv_short.cuh"
#include "kernels/expect_gated_conv.hpp"

namespace causeway::cuda {
namespace {

constexpr int gather_threads = 1024, max_classes = 128;  // below 2^36 there are fewer than 128 values of N

/// N of each class and the index of its first document; passed to the kernel by value.
struct ClassTable {
  std::int64_t points[max_classes], first[max_classes];
};

/// Writes the Extents of the documents of each class, in the order of the pack.
/// block: one length class; goes over all documents, 1024 at a time
/// thread: one document of these
/// shared memory: the number of matching documents of each warp
__global__ void __launch_bounds__(gather_threads)
    gather_extents(SegmentsView segments, std::int64_t taps, ClassTable classes, Extent* to) {
  __shared__ int of_warp[gather_threads / 32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t points = classes.points[blockIdx.x];
  to += classes.first[blockIdx.x];
  for (std::int64_t base = 0; base < segments.count; base += gather_threads) {
    // 1. Which documents belong to the class?
    const std::int64_t s = base + threadIdx.x;
    Extent document{0, 0};
    if (s < segments.count) document = {segments.cu_seqlens[s], segments.cu_seqlens[s + 1] - segments.cu_seqlens[s]};
    const bool matches = s < segments.count && points_for(document.count, taps) == points;
    const unsigned in_warp = __ballot_sync(~0u, matches);
    if (lane == 0) of_warp[warp] = __popc(in_warp);
    __syncthreads();
    // 2. A prefix sum over the block gives each match its index.
    int before = __popc(in_warp & ((1u << lane) - 1)), all = 0;
    for (int w = 0; w < gather_threads / 32; ++w) {
      before += w < warp ? of_warp[w] : 0;
      all += of_warp[w];
    }
    if (matches) to[before] = document;
    to += all;
    __syncthreads();
  }
}

}  // namespace

std::vector<LengthClass> classes_of(const SegmentsView& segments, std::int64_t taps) {
  std::map<std::int64_t, LengthClass> classes;
  for (std::int64_t s = 0; s < segments.count; ++s) {
    const std::int64_t count = segments.host[s + 1] - segments.host[s];
    LengthClass& of = classes[points_for(count, taps)];
    ++of.documents;
    of.taps = std::max(of.taps, std::min(taps, count));
  }
  std::vector<LengthClass> result;
  for (auto& [points, of] : classes) {
    of.points = points;
    result.push_back(of);
  }
  ensure(std::ssize(result) <= max_classes, "fft_conv: the documents have {} padded lengths, expected at most {}",
         result.size(), max_classes);
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
    const BatchSizes sizes(of, channels);
    if (dtype == DType::f64 || !fits_one_block(of.points))
      batch = std::max(batch, padded_rows(sizes.channels * sizes.documents) * of.points);
    const std::int64_t groups = std::min((sizes.channels - 1) / group_size + 2, sizes.channels);
    filters = std::max(filters, padded_rows(groups) * of.points);
  }
}

template <class R>
void transform_rows(const Stream& stream, std::int64_t points, std::int64_t rows, bool inverse, Complex<R>* data) {
  const std::int64_t padded = padded_rows(rows);
  stream.zero(data + rows * points, (padded - rows) * points * std::int64_t{sizeof(Complex<R>)});
  transform(stream, {.dtype = dtype_of<R>, .length = points, .count = padded, .stride = 1, .distance = points}, inverse,
            data);
}

template void transform_rows<float>(const Stream&, std::int64_t, std::int64_t, bool, Complex<float>*);
template void transform_rows<double>(const Stream&, std::int64_t, std::int64_t, bool, Complex<double>*);

void expect_fft_conv_inputs(const GatedConvInputs& in, TensorView taps) {
  expect_gated_inputs(in);
  expect_taps(in, taps);
  ensure(!in.segments.continues_from_left() && !in.segments.continues_to_right(),
         "fft_conv: a document reaches beyond the run, expected whole documents");
}

}  // namespace causeway::cuda
