#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>

#include "kernels/core/stream.hpp"
#include "kernels/cuda/attention/fused_calls.hpp"

/// cuDNN's fused attention as graphs. Only cudnn_graphs.cpp includes cudnn_frontend, which takes a minute to compile. A
/// build without cuDNN or its headers has no_cudnn.cpp instead, in which no graph exists.
namespace causeway::cuda {

/// Elements of a head.
inline constexpr std::int64_t fused_head = 128;

/// How the rows of several tensors lie in memory. cuDNN takes the rows of a gradient at the places of its input's rows,
/// also where the graph says otherwise (9.14: d_k and d_v); so they share a layout.
enum class FusedLayout : std::uint8_t {
  q,   ///< q, d_q
  k,   ///< k, d_k
  v,   ///< v, d_v
  y,   ///< y, d_y
  lse  ///< lse
};
inline constexpr std::size_t fused_layouts = 5;

/// The tensors of a graph, [tokens, heads, 128] in bf16; lse is [tokens, heads] in float32. Forward uses the first
/// five.
enum class FusedTensor : std::uint8_t { q, k, v, y, lse, d_y, d_q, d_k, d_v };
inline constexpr std::size_t fused_tensors = 9;

/// Everything that a graph depends on.
struct FusedShape {
  bool backward;
  PairMask mask;
  std::int64_t documents, heads, queries, keys;       ///< as in FusedCall
  std::array<std::int64_t, fused_layouts> strides{};  ///< from token to token, in elements

  auto operator<=>(const FusedShape&) const = default;
};

/// Device memory of a call.
struct FusedMemory {
  std::array<void*, fused_tensors> data{};
  /// In each layout, after how many elements a document begins: [documents + 1].
  std::array<const std::int64_t*, fused_layouts> offsets{};
  const std::int32_t *queries = nullptr, *keys = nullptr;  ///< of each document, [documents]
  void* workspace = nullptr;
};

/// Whether this build has graphs and the current GPU runs them.
bool has_fused_graphs();

/// A graph of cuDNN that is ready to run.
class FusedGraph {
 public:
  virtual ~FusedGraph() = default;
  virtual std::int64_t workspace() const = 0;  ///< bytes
  /// Enqueues the call. Backward overwrites d_q, d_k and d_v of the documents, and reads y only for
  /// its products with d_y.
  virtual void run(const Stream& stream, const FusedMemory& memory) const = 0;
};

/// The graphs of a stream (Stream::resource): the most recently used ones, because a graph keeps code and memory.
class FusedGraphs {
 public:
  FusedGraphs();
  ~FusedGraphs();
  FusedGraphs(const FusedGraphs&) = delete;
  FusedGraphs& operator=(const FusedGraphs&) = delete;

  /// The graph of this shape; null if this build or this GPU does not have it. cuDNN needs 0.04 s to make one, and 0.65
  /// s for the first backward of a size.
  std::shared_ptr<const FusedGraph> find(const Stream& stream, const FusedShape& shape);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace causeway::cuda
