#pragma once

#include "kernels/reorder.hpp"

namespace causeway {

/// Copies all rows of `from` to `to`, [rows, columns] of the same shape and dtype with any row strides: packs rows for
/// a message, or puts received rows in their place.
inline void copy_all_rows(const Stream& stream, TensorView from, TensorView to) {
  const RowRange all[] = {{.from = 0, .to = 0, .count = from.rows()}};
  copy_rows(stream, {.x = from, .ranges = all, .y = to});
}

}  // namespace causeway
