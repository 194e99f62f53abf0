#pragma once

#include <vector>

#include "kernels/fourier.hpp"
#include "parallel/exchange/distributed_fft.hpp"
#include "parallel/layout/span_plan.hpp"

namespace causeway::long_convolution::fft {

/// This rank's equal shard of a document that spans several ranks, with its place in the transform over them.
struct DocumentShard {
  explicit DocumentShard(const SpanningDocument& of)
      : document(of),
        rows(of.shard()),
        length(rows * std::ssize(of.ranks)),
        first_position(of.position * rows),
        residue(plan_butterflies(static_cast<int>(std::ssize(of.ranks)), of.position).residue) {}

  DistributedFft transform(TensorView x) const { return {.ranks = document.ranks, .x = x}; }
  /// This rank's frequencies after the twist, on a grid of 4·length points: first_frequency() + k·frequency_step().
  std::int64_t first_frequency() const { return 4 * residue + 1; }
  std::int64_t frequency_step() const { return 4 * std::ssize(document.ranks); }

  /// alpha·x times exp(-iπ j/2L): [rows, D, 2].
  Tensor twisted(TensorView x, double alpha, const Stream& stream) const {
    Tensor y(stream, accumulator_of(x.dtype), {rows, x.columns(), 2});
    rotate(stream, {.x = x, .first = -first_position, .step = -1, .modulus = 4 * length, .alpha = alpha, .y = y});
    return y;
  }
  /// The adjoint: y += the real part of z times exp(+iπ j/2L).
  void add_untwisted(TensorView z, TensorView y, const Stream& stream) const {
    rotate(stream, {.x = z, .first = first_position, .step = 1, .modulus = 4 * length, .accumulate = true, .y = y});
  }

  const SpanningDocument& document;
  std::int64_t rows;            ///< of the equal shard
  std::int64_t length;          ///< points of the transform, on all ranks
  std::int64_t first_position;  ///< document row of this rank's first row
  std::int64_t residue;         ///< of this rank's frequencies modulo the number of ranks
};

inline std::vector<DocumentShard> document_shards(const SpanPlan& plan) {
  return std::vector<DocumentShard>(plan.spanning.begin(), plan.spanning.end());
}

}  // namespace causeway::long_convolution::fft
