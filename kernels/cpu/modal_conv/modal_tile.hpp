#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cpu/gated_rows.hpp"
#include "kernels/cpu/modal_conv/modal_rate.hpp"
#include "kernels/cpu/toeplitz.hpp"
#include "kernels/modal_conv.hpp"

/// The modal recurrence of one tile of channels. Tokens are processed in pieces of at most `modal_piece` tokens of one
/// document. The outputs of a piece are the sum of a Toeplitz product with the first taps of the filter and of terms
/// from the state just before the piece.
namespace causeway::cpu {

inline constexpr std::int64_t modal_piece = 16;

/// Tokens of one tile that are processed before the next tile: enough that loading the tile's tables costs little.
inline constexpr std::int64_t modal_panel = 4 * modal_conv_block;

/// Tables of a tile's modes: powers of λ, 1 - λ^modal_piece, residues, and the filter's first taps.
template <class R>
class ModeTables {
 public:
  /// Vectors of memory that the tables take.
  static std::int64_t size(std::int64_t modes) { return modes * (modal_piece + 3) + modal_piece; }

  ModeTables(Vector<R>* memory, std::int64_t modes)
      : count(modes),
        powers_(memory),
        loss_(memory + modes * (modal_piece + 1)),
        residues_(loss_ + modes),
        taps_(residues_ + modes) {}

  /// Fills the tables; computes them in float64. `residues` and `skip` may be absent.
  template <class T>
  void prepare(TensorView residues, TensorView log_rates, TensorView skip, const Tile& tile) {
    double taps[modal_piece][lanes<R>] = {};
    for (std::int64_t m = 0; m < count; ++m) {
      double rate[lanes<R>] = {}, residue[lanes<R>] = {}, decay[lanes<R>], power[lanes<R>], loss[lanes<R>];
      for (std::int64_t d = 0; d < tile.width; ++d) {
        rate[d] = static_cast<double>(log_rates.row<const R>(tile.first + d)[m]);
        if (residues.present()) residue[d] = static_cast<double>(residues.row<const R>(tile.first + d)[m]);
      }
#pragma omp simd
      for (std::int64_t d = 0; d < lanes<R>; ++d) {
        rate[d] = exponential(rate[d]);
        decay[d] = exponential(-rate[d]);
        loss[d] = -exponential_minus_one(-static_cast<double>(modal_piece) * rate[d]);
        power[d] = 1;
      }
      for (std::int64_t i = 0; i <= modal_piece; ++i)
        for (std::int64_t d = 0; d < lanes<R>; ++d) {
          if (i < modal_piece) taps[i][d] += residue[d] * power[d];
          powers_[m * (modal_piece + 1) + i][d] = static_cast<R>(power[d]);
          power[d] *= decay[d];
        }
      for (std::int64_t d = 0; d < lanes<R>; ++d) {
        loss_[m][d] = static_cast<R>(loss[d]);
        residues_[m][d] = static_cast<R>(residue[d]);
      }
    }
    for (std::int64_t i = 0; i < modal_piece; ++i)
      for (std::int64_t d = 0; d < lanes<R>; ++d) taps_[i][d] = static_cast<R>(taps[i][d]);
    if (skip.present())
      for (std::int64_t d = 0; d < tile.width; ++d) taps_[0][d] += parameter<T>(skip, tile.first + d, 0);
  }

  const Vector<R>* powers(std::int64_t m) const { return powers_ + m * (modal_piece + 1); }  ///< λ^0 … λ^modal_piece
  const Vector<R>& residue(std::int64_t m) const { return residues_[m]; }
  const Vector<R>* taps() const { return taps_; }  ///< h_0 … h_{modal_piece-1}, with the skip added to lag 0

  /// 1 - λ^n without cancellation: the fraction of a state that is lost over n tokens. The tables hold it for whole
  /// pieces.
  Vector<R> loss(std::int64_t m, std::int64_t n, TensorView log_rates, const Tile& tile) const {
    if (n == modal_piece) return loss_[m];
    Vector<R> result{};
    for (std::int64_t d = 0; d < tile.width; ++d)
      result[d] = static_cast<R>(-std::expm1(
          -static_cast<double>(n) * modal_rate(static_cast<double>(log_rates.row<const R>(tile.first + d)[m]))));
    return result;
  }

  const std::int64_t count;

 private:
  Vector<R>*powers_, *loss_, *residues_, *taps_;
};

/// For the n rows of a piece: y[i] += Σ_m λ_m^{i+1} w_m if `rising`, otherwise y[i] += Σ_m λ_m^{n-1-i} w_m.
template <bool rising, class R>
void add_from_state(const ModeTables<R>& modes, const Vector<R>* w, std::int64_t n, Vector<R>* y) {
  constexpr std::int64_t unrolled = 8;
  for (std::int64_t first = 0; first < n; first += unrolled) {
    Vector<R> sum[unrolled] = {};
    if (n - first >= unrolled) {
      for (std::int64_t m = 0; m < modes.count; ++m)
        for (std::int64_t r = 0; r < unrolled; ++r)
          sum[r] += modes.powers(m)[rising ? first + r + 1 : n - 1 - first - r] * w[m];
    } else {
      for (std::int64_t m = 0; m < modes.count; ++m)
        for (std::int64_t r = 0; r < n - first; ++r)
          sum[r] += modes.powers(m)[rising ? first + r + 1 : n - 1 - first - r] * w[m];
    }
    for (std::int64_t r = 0; r < std::min(unrolled, n - first); ++r) y[first + r] += sum[r];
  }
}

/// Σ_j λ_m^{n-1-j} x_j: the state after a piece from a zero start.
template <class R>
Vector<R> state_of_piece(const ModeTables<R>& modes, std::int64_t m, const Vector<R>* x, std::int64_t n) {
  const Vector<R>* const power = modes.powers(m) + n - 1;
  Vector<R> even{}, odd{};
  std::int64_t j = 0;
  for (; j + 2 <= n; j += 2) {
    even += power[-j] * x[j];
    odd += power[-j - 1] * x[j + 1];
  }
  if (j < n) even += power[-j] * x[j];
  return even + odd;
}

/// s becomes the state after a piece. If the piece starts its document (`fresh`), s was not set before.
template <class R>
void advance_state(const ModeTables<R>& modes, const Vector<R>* x, std::int64_t n, bool fresh, TensorView log_rates,
                   const Tile& tile, Vector<R>* s) {
  for (std::int64_t m = 0; m < modes.count; ++m) {
    const Vector<R> own = state_of_piece(modes, m, x, n);
    if (fresh)
      s[m] = own;
    else
      s[m] += own - modes.loss(m, n, log_rates, tile) * s[m];
  }
}

}  // namespace causeway::cpu
