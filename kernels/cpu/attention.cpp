#include "kernels/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention_sums.hpp"
#include "kernels/cpu/blas.hpp"
#include "kernels/cpu/channel_tiles.hpp"
#include "kernels/cpu/openmp.hpp"
#include "kernels/expect_attention.hpp"

namespace causeway::cpu {
namespace {

constexpr std::int64_t query_block = 64, key_block = 128;
constexpr std::int64_t diagonal_rows = 16;  // rows taken together in a block that the causal diagonal crosses

/// Up to query_block queries of one document, and the keys [first_key, last_key) that the last of them attends to.
struct QueryTile {
  std::int64_t first, count;
  std::int64_t first_key, last_key;
};

std::vector<QueryTile> query_tiles(const AttentionInputs& in) {
  std::vector<QueryTile> tiles;
  for_each_document(in.segments, 0, in.segments.tokens,
                    [&](std::int64_t first, std::int64_t last, std::int64_t start, std::int64_t) {
                      for (std::int64_t t = first; t < last; t += query_block) {
                        const std::int64_t stop = std::min(t + query_block, last);
                        const std::int64_t from = std::clamp<std::int64_t>(start - in.key_offset, 0, in.k.rows()),
                                           to = std::clamp<std::int64_t>(stop - in.key_offset, from, in.k.rows());
                        tiles.push_back({t, stop - t, from, to});
                      }
                    });
  return tiles;
}

/// Which entries of a block of scores, [query][key_block], are not masked: query i attends to the first keys_of(i)
/// keys.
struct CausalMask {
  std::int64_t queries, keys;
  std::int64_t first_query_keys;  ///< keys of query 0 if the block had no limits; each next query has one more

  std::int64_t keys_of(std::int64_t query) const { return std::clamp<std::int64_t>(first_query_keys + query, 0, keys); }
  bool all_unmasked() const { return keys_of(0) == keys; }
};

/// Covers the unmasked entries of a block: calls rectangle(first_query, count, keys), and entry(query, key) for the
/// entries near the diagonal that no rectangle covers. A masked entry is never multiplied, not even by zero.
template <class Rectangle, class Entry>
void for_each_unmasked(const CausalMask& mask, const Rectangle& rectangle, const Entry& entry) {
  if (mask.all_unmasked()) return rectangle(0, mask.queries, mask.keys);
  for (std::int64_t first = 0; first < mask.queries; first += diagonal_rows) {
    const std::int64_t count = std::min(diagonal_rows, mask.queries - first), common_keys = mask.keys_of(first);
    if (common_keys > 0) rectangle(first, count, common_keys);
    for (std::int64_t i = first; i < first + count; ++i)
      for (std::int64_t j = common_keys; j < mask.keys_of(i); ++j) entry(i, j);
  }
}

/// to = factor · rows [first, first + count) of one head, E elements each, converted to R.
template <class T, class R = Accumulator<T>>
void load_head(TensorView from, std::int64_t first, std::int64_t count, std::int64_t head, std::int64_t E, R* to,
               R factor = 1) {
  for (std::int64_t i = 0; i < count; ++i) {
    const T* row = from.row<const T>(first + i) + head * E;
    for (std::int64_t e = 0; e < E; ++e) to[i * E + e] = factor * static_cast<R>(row[e]);
  }
}

/// to[i] += factor · from[i].
template <class R>
void add_scaled(R* to, R factor, const R* from, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) to[i] += factor * from[i];
}

/// The scores of a block, Q Kᵀ. Q already contains the factor 1/√E.
template <class R>
void score(const R* q, const R* k, std::int64_t queries, std::int64_t keys, std::int64_t E, R* scores) {
  blas(false, true, queries, keys, E, q, E, k, E, R{0}, scores, key_block);
}

/// The online softmax update of one query (Dao et al., arXiv 2205.14135): its scores of a block become weights relative
/// to the new running maximum; its earlier sum and y are rescaled to that maximum.
template <class R>
void online_softmax_update(R* scores, std::int64_t count, R& maximum, R& sum, R* y, std::int64_t E) {
  R highest = maximum;
#pragma omp simd reduction(max : highest)
  for (std::int64_t j = 0; j < count; ++j) highest = scores[j] > highest ? scores[j] : highest;
  const R rescale = sum == 0 ? R{0} : exponential(maximum - highest);
  R block_sum = 0;
#pragma omp simd reduction(+ : block_sum)
  for (std::int64_t j = 0; j < count; ++j) {
    scores[j] = exponential(scores[j] - highest);
    block_sum += scores[j];
  }
  sum = sum * rescale + block_sum;
  for (std::int64_t e = 0; e < E; ++e) y[e] *= rescale;
  maximum = highest;
}

// Lower bound: 4·E flops for each pair of a query and a key that it attends to.
template <class T, class Y>
void forward(const Stream& stream, const AttentionForward& args) {
  using R = Accumulator<T>;
  const AttentionInputs& in = args.in;
  const std::int64_t heads = in.q.shape[1], E = in.q.shape[2];
  const R scale = static_cast<R>(1 / std::sqrt(static_cast<double>(E)));
  const std::vector<QueryTile> tiles = query_tiles(in);
  const std::int64_t count = static_cast<std::int64_t>(tiles.size()),
                     scratch_size = (2 * query_block + 2 * key_block) * E + query_block * key_block;
  const Tensor scratch(stream, dtype_of<R>, {thread_count(), scratch_size});
  use_one_blas_thread();

#pragma omp parallel for schedule(dynamic)
  for (std::int64_t item = 0; item < heads * count; ++item) {
    const std::int64_t head = item / count;
    const QueryTile& tile = tiles[static_cast<std::size_t>(item % count)];
    R *const q = scratch.view().template row<R>(thread_index()), *const y = q + query_block * E,
             *const k = y + query_block * E, *const v = k + key_block * E;
    R* const scores = v + key_block * E;
    R maximum[query_block], sum[query_block];
    load_head<T>(in.q, tile.first, tile.count, head, E, q, scale);
    for (std::int64_t i = 0; i < tile.count; ++i) {
      maximum[i] = args.accumulate ? args.lse.row<const R>(tile.first + i)[head] : -std::numeric_limits<R>::infinity();
      sum[i] = maximum[i] == -std::numeric_limits<R>::infinity() ? R{0} : R{1};
      const Y* const before = args.y.row<const Y>(tile.first + i) + head * E;
      for (std::int64_t e = 0; e < E; ++e) y[i * E + e] = sum[i] == 0 ? R{0} : static_cast<R>(before[e]);
    }
    for (std::int64_t key = tile.first_key; key < tile.last_key; key += key_block) {
      const CausalMask mask{tile.count, std::min(key_block, tile.last_key - key), tile.first - in.key_offset - key + 1};
      load_head<T>(in.k, key, mask.keys, head, E, k);
      load_head<T>(in.v, key, mask.keys, head, E, v);
      score(q, k, mask.queries, mask.keys, E, scores);
      for (std::int64_t i = 0; i < mask.queries; ++i)
        if (mask.keys_of(i) > 0)
          online_softmax_update(scores + i * key_block, mask.keys_of(i), maximum[i], sum[i], y + i * E, E);
      for_each_unmasked(
          mask,
          [&](std::int64_t first, std::int64_t rows, std::int64_t keys) {
            blas(false, false, rows, E, keys, scores + first * key_block, key_block, v, E, R{1}, y + first * E, E);
          },
          [&](std::int64_t i, std::int64_t j) { add_scaled(y + i * E, scores[i * key_block + j], v + j * E, E); });
    }
    for (std::int64_t i = 0; i < tile.count; ++i) {
      Y* const to = args.y.row<Y>(tile.first + i) + head * E;
      const R inverse_sum = sum[i] == 0 ? R{0} : 1 / sum[i];
      for (std::int64_t e = 0; e < E; ++e) to[e] = static_cast<Y>(y[i * E + e] * inverse_sum);
      args.lse.row<R>(tile.first + i)[head] =
          sum[i] == 0 ? -std::numeric_limits<R>::infinity() : maximum[i] + std::log(sum[i]);
    }
  }
}

/// The gradients, tile by tile. Parallel over heads: no two heads write the same elements.
// Lower bound: 10·E flops for each pair of a query and a key that it attends to.
template <class T>
void backward(const Stream& stream, const AttentionBackward& args) {
  using R = Accumulator<T>;
  const AttentionInputs& in = args.in;
  const std::int64_t heads = in.q.shape[1], E = in.q.shape[2];
  const R scale = static_cast<R>(1 / std::sqrt(static_cast<double>(E)));
  const std::vector<QueryTile> tiles = query_tiles(in);
  const std::int64_t scratch_size = 2 * (query_block + key_block) * E + 2 * query_block * key_block;
  const Tensor scratch(stream, dtype_of<R>, {thread_count(), scratch_size});
  use_one_blas_thread();

#pragma omp parallel for schedule(dynamic)
  for (std::int64_t head = 0; head < heads; ++head) {
    R *const q = scratch.view().template row<R>(thread_index()), *const d_y = q + query_block * E,
             *const k = d_y + query_block * E, *const v = k + key_block * E;
    R *const p = v + key_block * E, *const ds = p + query_block * key_block;
    for (const QueryTile& tile : tiles) {
      load_head<T>(in.q, tile.first, tile.count, head, E, q, scale);
      load_head<T>(args.d_y, tile.first, tile.count, head, E, d_y);
      const auto d_q = [&](std::int64_t i) { return args.d_q.row<R>(tile.first + i) + head * E; };
      for (std::int64_t key = tile.first_key; key < tile.last_key; key += key_block) {
        const CausalMask mask{tile.count, std::min(key_block, tile.last_key - key),
                              tile.first - in.key_offset - key + 1};
        const auto d_k = [&](std::int64_t j) { return args.d_k.row<R>(key + j) + head * E; };
        const auto d_v = [&](std::int64_t j) { return args.d_v.row<R>(key + j) + head * E; };
        load_head<T>(in.k, key, mask.keys, head, E, k);
        load_head<T>(in.v, key, mask.keys, head, E, v);
        score(q, k, mask.queries, mask.keys, E, p);
        score(d_y, v, mask.queries, mask.keys, E, ds);
        for (std::int64_t i = 0; i < mask.queries; ++i) {
          const R lse = args.lse.row<const R>(tile.first + i)[head],
                  delta = args.delta.row<const R>(tile.first + i)[head];
          R *const weights = p + i * key_block, *const d_scores = ds + i * key_block;
#pragma omp simd
          for (std::int64_t j = 0; j < mask.keys_of(i); ++j) {
            weights[j] = exponential(weights[j] - lse);
            d_scores[j] = weights[j] * (d_scores[j] - delta);
          }
        }
        for (std::int64_t j = 0; j < mask.keys; ++j)  // d_q = dS·K/√E; for d_k the factor is in q already
          for (std::int64_t e = 0; e < E; ++e) k[j * E + e] *= scale;
        for_each_unmasked(
            mask,
            [&](std::int64_t first, std::int64_t rows, std::int64_t keys) {
              const R *const weights = p + first * key_block, *const d_scores = ds + first * key_block;
              blas(false, false, rows, E, keys, d_scores, key_block, k, E, R{1}, d_q(first), args.d_q.row_stride);
              blas(true, false, keys, E, rows, d_scores, key_block, q + first * E, E, R{1}, d_k(0),
                   args.d_k.row_stride);
              blas(true, false, keys, E, rows, weights, key_block, d_y + first * E, E, R{1}, d_v(0),
                   args.d_v.row_stride);
            },
            [&](std::int64_t i, std::int64_t j) {
              add_scaled(d_q(i), ds[i * key_block + j], k + j * E, E);
              add_scaled(d_k(j), ds[i * key_block + j], q + i * E, E);
              add_scaled(d_v(j), p[i * key_block + j], d_y + i * E, E);
            });
      }
    }
  }
}

template <class T, class Y>
void delta(const AttentionDelta& args) {
  using R = Accumulator<T>;
  const std::int64_t heads = args.d_y.shape[1], E = args.d_y.shape[2];
#pragma omp parallel for schedule(static)
  for (std::int64_t t = 0; t < args.d_y.rows(); ++t)
    for (std::int64_t h = 0; h < heads; ++h) {
      const T* const g = args.d_y.row<const T>(t) + h * E;
      const Y* const y = args.y.row<const Y>(t) + h * E;
      R sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t e = 0; e < E; ++e) sum += static_cast<R>(y[e]) * static_cast<R>(g[e]);
      args.delta.row<R>(t)[h] = sum;
    }
}

/// Calls body.template operator()<T, Y>(), where Y, the type of y, is T or its accumulator type.
template <class Body>
void dispatch_result(DType dtype, DType result, const Body& body) {
  dispatch(dtype, [&]<class T> {
    if (result == dtype)
      body.template operator()<T, T>();
    else
      body.template operator()<T, Accumulator<T>>();
  });
}

}  // namespace

void attention_forward(const Stream& stream, const AttentionForward& args) {
  expect_attention(args);
  dispatch_result(args.in.q.dtype, args.y.dtype, [&]<class T, class Y> { forward<T, Y>(stream, args); });
}

void attention_delta(const Stream&, const AttentionDelta& args) {
  expect_attention(args);
  dispatch_result(args.d_y.dtype, args.y.dtype, [&]<class T, class Y> { delta<T, Y>(args); });
}

void attention_backward(const Stream& stream, const AttentionBackward& args) {
  expect_attention(args);
  const AttentionSums sums(stream, args);
  dispatch(args.in.q.dtype, [&]<class Type> { backward<Type>(stream, sums.added()); });
  sums.store();
}

}  // namespace causeway::cpu
