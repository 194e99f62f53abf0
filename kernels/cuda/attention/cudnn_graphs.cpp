#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <source_location>
#include <unordered_map>

#include "kernels/core/error.hpp"
#include "kernels/core/handle.hpp"
#include "kernels/cuda/attention/fused_graphs.hpp"

namespace causeway::cuda {
namespace {

namespace fe = cudnn_frontend;
using TensorOfGraph = std::shared_ptr<fe::graph::Tensor_attributes>;

void cudnn_check(cudnnStatus_t status, std::source_location where = std::source_location::current()) {
  ensure(status == CUDNN_STATUS_SUCCESS, "{}:{}: cuDNN: {}", where.file_name(), where.line(),
         cudnnGetErrorString(status));
}

struct CudnnTraits {
  using type = cudnnHandle_t;
  static type null() { return nullptr; }
  static void close(type value) noexcept { cudnnDestroy(value); }
};
using CudnnHandle = Handle<CudnnTraits>;

/// The numbers by which a graph knows its tensors: those of FusedTensor, of the offsets of each layout, and two more.
constexpr std::int64_t id_of(std::size_t tensor) { return 1 + static_cast<std::int64_t>(tensor); }
constexpr std::int64_t id_of(FusedTensor tensor) { return id_of(static_cast<std::size_t>(tensor)); }
constexpr std::int64_t id_of_offsets(std::size_t layout) { return 101 + static_cast<std::int64_t>(layout); }
constexpr std::int64_t id_of_queries = 201, id_of_keys = 202;

FusedLayout layout_of(FusedTensor tensor) {
  constexpr FusedLayout layouts[] = {FusedLayout::q, FusedLayout::k, FusedLayout::v, FusedLayout::y, FusedLayout::lse,
                                     FusedLayout::y, FusedLayout::q, FusedLayout::k, FusedLayout::v};
  return layouts[static_cast<std::size_t>(tensor)];
}

/// Describes the graph of one FusedShape.
class Description {
 public:
  explicit Description(const FusedShape& of) : of_(of), graph_(std::make_shared<fe::graph::Graph>()) {
    graph_->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    queries_ = index(id_of_queries, of.documents, fe::DataType_t::INT32);
    keys_ = index(id_of_keys, of.documents, fe::DataType_t::INT32);
    for (std::size_t i = 0; i < fused_layouts; ++i)
      offsets_[i] = index(id_of_offsets(i), of.documents + 1, fe::DataType_t::INT64);
  }

  std::shared_ptr<fe::graph::Graph> forward() {
    auto options = options_of<fe::graph::SDPA_attributes>().set_generate_stats(true);
    auto [y, lse] = graph_->sdpa(input(FusedTensor::q), input(FusedTensor::k), input(FusedTensor::v), options);
    output(y, FusedTensor::y);
    output(lse, FusedTensor::lse);
    return graph_;
  }

  std::shared_ptr<fe::graph::Graph> backward() {
    auto options = options_of<fe::graph::SDPA_backward_attributes>().set_deterministic_algorithm(true);
    auto [d_q, d_k, d_v] =
        graph_->sdpa_backward(input(FusedTensor::q), input(FusedTensor::k), input(FusedTensor::v),
                              input(FusedTensor::y), input(FusedTensor::d_y), input(FusedTensor::lse), options);
    output(d_q, FusedTensor::d_q);
    output(d_k, FusedTensor::d_k);
    output(d_v, FusedTensor::d_v);
    return graph_;
  }

 private:
  TensorOfGraph index(std::int64_t id, std::int64_t count, fe::DataType_t type) {
    return graph_->tensor(fe::graph::Tensor_attributes()
                              .set_name("index" + std::to_string(id))
                              .set_uid(id)
                              .set_dim({count, 1, 1, 1})
                              .set_stride({1, 1, 1, 1})
                              .set_data_type(type));
  }
  /// [documents, heads, rows, 128], for lse 1 instead of 128: the heads of a token follow each other, and the documents
  /// begin at the offsets.
  void place(fe::graph::Tensor_attributes& x, FusedTensor tensor) {
    const FusedLayout layout = layout_of(tensor);
    const std::int64_t rows = layout == FusedLayout::k || layout == FusedLayout::v ? of_.keys : of_.queries,
                       width = layout == FusedLayout::lse ? 1 : fused_head,
                       stride = of_.strides[static_cast<std::size_t>(layout)];
    x.set_name("tensor" + std::to_string(id_of(tensor)))
        .set_uid(id_of(tensor))
        .set_dim({of_.documents, of_.heads, rows, width})
        .set_stride({rows * stride, width, stride, 1})
        .set_ragged_offset(offsets_[static_cast<std::size_t>(layout)]);
    if (layout == FusedLayout::lse) x.set_data_type(fe::DataType_t::FLOAT);
  }
  TensorOfGraph input(FusedTensor tensor) {
    fe::graph::Tensor_attributes x;
    place(x, tensor);
    return graph_->tensor(x);
  }
  void output(const TensorOfGraph& x, FusedTensor tensor) {
    x->set_output(true);
    place(*x, tensor);
  }

  template <class Options>
  Options options_of() const {
    Options options;
    options.set_name("attention")
        .set_attn_scale(1 / std::sqrt(static_cast<float>(fused_head)))
        .set_padding_mask(true)
        .set_seq_len_q(queries_)
        .set_seq_len_kv(keys_);
    if (of_.mask == PairMask::causal) options.set_causal_mask(true);
    if (of_.mask == PairMask::causal_from_end) options.set_causal_mask_bottom_right(true);
    return options;
  }

  const FusedShape& of_;
  std::shared_ptr<fe::graph::Graph> graph_;
  TensorOfGraph queries_, keys_;
  std::array<TensorOfGraph, fused_layouts> offsets_;
};

class CudnnGraph final : public FusedGraph {
 public:
  CudnnGraph(std::shared_ptr<fe::graph::Graph> graph, cudnnHandle_t handle, bool backward)
      : graph_(std::move(graph)), handle_(handle), backward_(backward) {
    if (graph_->get_workspace_size(workspace_).is_bad()) workspace_ = -1;
  }
  std::int64_t workspace() const override { return workspace_; }

  void run(const Stream& stream, const FusedMemory& memory) const override {
    cudnn_check(cudnnSetStream(handle_, static_cast<cudaStream_t>(stream.native())));
    std::unordered_map<std::int64_t, void*> addresses{{id_of_queries, const_cast<std::int32_t*>(memory.queries)},
                                                      {id_of_keys, const_cast<std::int32_t*>(memory.keys)}};
    for (std::size_t i = 0; i < (backward_ ? fused_tensors : fused_layouts); ++i) addresses[id_of(i)] = memory.data[i];
    for (std::size_t i = 0; i < fused_layouts; ++i)
      addresses[id_of_offsets(i)] = const_cast<std::int64_t*>(memory.offsets[i]);
    fe::error_t result = graph_->execute(handle_, addresses, memory.workspace);
    ensure(result.is_good(), "cuDNN: attention: {}", result.get_message());
  }

 private:
  std::shared_ptr<fe::graph::Graph> graph_;
  cudnnHandle_t handle_;
  bool backward_;
  std::int64_t workspace_ = 0;
};

}  // namespace

bool has_fused_graphs() {
  // The deterministic backward over packed documents was measured on Hopper; older GPUs do not have it.
  int device = 0, major = 0;
  if (cudaGetDevice(&device) != cudaSuccess) {  // no GPU: the memory of a Hopper GPU is predicted
    static_cast<void>(cudaGetLastError());
    return true;
  }
  return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9;
}

struct FusedGraphs::Implementation {
  struct Entry {
    std::shared_ptr<const FusedGraph> graph;  // null: cuDNN refused
    std::int64_t used = 0;
  };
  static constexpr std::size_t most_graphs = 256;

  CudnnHandle handle;
  std::map<FusedShape, Entry> graphs;
  std::int64_t uses = 0;

  std::shared_ptr<const FusedGraph> make(const FusedShape& of) const {
    Description description(of);
    const std::shared_ptr<fe::graph::Graph> graph = of.backward ? description.backward() : description.forward();
    const cudnnHandle_t to = handle.get();
    if (graph->validate().is_bad() || graph->build_operation_graph(to).is_bad() ||
        graph->create_execution_plans({fe::HeurMode_t::A}).is_bad() || graph->check_support(to).is_bad() ||
        graph->build_plans(to).is_bad())
      return nullptr;
    return std::make_shared<CudnnGraph>(graph, to, of.backward);
  }
};

FusedGraphs::FusedGraphs() : implementation_(std::make_unique<Implementation>()) {
  if (!has_fused_graphs()) return;
  cudnnHandle_t created = nullptr;
  if (cudnnCreate(&created) == CUDNN_STATUS_SUCCESS) implementation_->handle = CudnnHandle(created);
}
FusedGraphs::~FusedGraphs() = default;

std::shared_ptr<const FusedGraph> FusedGraphs::find(const Stream& stream, const FusedShape& shape) {
  Implementation& all = *implementation_;
  if (!all.handle) return nullptr;
  auto found = all.graphs.find(shape);
  if (found == all.graphs.end()) {
    if (all.graphs.size() >= Implementation::most_graphs) {
      stream.wait();  // the GPU may still use the code of a graph that is removed
      const auto older = [](const auto& a, const auto& b) { return a.second.used < b.second.used; };
      all.graphs.erase(std::min_element(all.graphs.begin(), all.graphs.end(), older));
    }
    found = all.graphs.emplace(shape, Implementation::Entry{.graph = all.make(shape)}).first;
  }
  found->second.used = ++all.uses;
  return found->second.graph;
}

}  // namespace causeway::cuda
