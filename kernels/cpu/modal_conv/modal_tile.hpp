#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cpu/gated_rows.hpp"
#include "kernels/cpu/modal_conv/modal_rate.hpp"
#include "kernels/cpu/toeplitz.hpp"
#include "kernels/modal_conv.hpp"

/// The modal recurrence of one tile of channels, by pieces: up to `modal_piece` tokens of one document. Within a piece
/// outputs come from a Toeplitz product with the first taps of the filter and from the state just before the piece.
namespace causeway::cpu {

inline constexpr std::int64_t modal_piece = 16;

/// Tokens that a tile works off before the next tile's turn: enough to make loading the tile's tables worth it.
inline constexpr std::int64_t modal_visit = 4 * modal_conv_block;

/// What a tile knows of its modes.
template <class R>
class Modes {
 public:
  static std::int64_t size(std::int64_t modes) { return modes * (modal_piece + 3) + modal_piece; }

  Modes(Vector<R>* memory, std::int64_t modes)
      : count(modes),
        powers_(memory),
        loss_(memory + modes * (modal_piece + 1)),
        residues_(loss_ + modes),
        taps_(residues_ + modes) {}

  /// Fills the tables, in float64 throughout. `residues` may be absent.
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
  const Vector<R>* taps() const { return taps_; }  ///< h of a piece, the skip added to lag 0

  /// 1 - λ^n without cancellation: what a state loses over n tokens. Whole pieces have it ready.
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

/// y = H x (Direction +1) or Hᵀ x (-1) of a piece's n rows, H the Toeplitz factor of `taps`.
template <int Direction, class V>
void multiply_piece(const V* taps, const V* x, std::int64_t n, V* y) {
  std::int64_t i = 0;
  const auto take = [&]<int R>() {
    for (; i + R <= n; i += R) {
      V sum[R] = {};
      if constexpr (Direction > 0) {
        multiply_toeplitz<1>(taps, modal_piece, x + i, i, sum);
        for (int r = 0; r < R; ++r) y[i + r] = sum[r];
      } else {
        multiply_toeplitz<-1>(taps, modal_piece, x + i + R - 1, n - i - R, sum);
        for (int r = 0; r < R; ++r) y[i + R - 1 - r] = sum[r];
      }
    }
  };
  take.template operator()<8>();
  take.template operator()<4>();
  take.template operator()<2>();
  take.template operator()<1>();
}

/// y[i] += Σ_m λ_m^{i+1} w_m (`rising`), or Σ_m λ_m^{n-1-i} w_m, of a piece's n rows.
template <bool rising, class R>
void add_from_state(const Modes<R>& modes, const Vector<R>* w, std::int64_t n, Vector<R>* y) {
  constexpr std::int64_t together = 8;
  for (std::int64_t first = 0; first < n; first += together) {
    Vector<R> sum[together] = {};
    if (n - first >= together) {
      for (std::int64_t m = 0; m < modes.count; ++m)
        for (std::int64_t r = 0; r < together; ++r)
          sum[r] += modes.powers(m)[rising ? first + r + 1 : n - 1 - first - r] * w[m];
    } else {
      for (std::int64_t m = 0; m < modes.count; ++m)
        for (std::int64_t r = 0; r < n - first; ++r)
          sum[r] += modes.powers(m)[rising ? first + r + 1 : n - 1 - first - r] * w[m];
    }
    for (std::int64_t r = 0; r < std::min(together, n - first); ++r) y[first + r] += sum[r];
  }
}

/// Σ_j λ_m^{n-1-j} x_j: the state after a piece from a zero start.
template <class R>
Vector<R> state_of_piece(const Modes<R>& modes, std::int64_t m, const Vector<R>* x, std::int64_t n) {
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

/// s becomes the state after a piece; `fresh`: its document starts with the piece.
template <class R>
void advance_state(const Modes<R>& modes, const Vector<R>* x, std::int64_t n, bool fresh, TensorView log_rates,
                   const Tile& tile, Vector<R>* s) {
  for (std::int64_t m = 0; m < modes.count; ++m) {
    const Vector<R> own = state_of_piece(modes, m, x, n);
    if (fresh)
      s[m] = own;
    else
      s[m] += own - modes.loss(m, n, log_rates, tile) * s[m];
  }
}

inline void expect_modes(const GatedConvInputs& in, TensorView residues, TensorView log_rates) {
  const Shape shape{in.v.columns(), log_rates.columns()};
  expect("log_rates", log_rates, accumulator_of(in.v.dtype), shape);
  expect_if_present("residues", residues, accumulator_of(in.v.dtype), shape);
}

}  // namespace causeway::cpu
