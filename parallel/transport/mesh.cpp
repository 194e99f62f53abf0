#include "parallel/transport/mesh.hpp"

namespace causeway {
namespace {

/// The number of ranks of a context group, with missing extents filled in and checked.
int context_size(int ranks, int data, int context) {
  require(data >= 0 && context >= 0, "the mesh is data × context = {} × {}, expected extents of at least 0", data,
          context);
  const int chosen = context > 0 ? context : data > 0 ? ranks / data : ranks;
  const int groups = data > 0 ? data : ranks / chosen;
  require(std::int64_t{groups} * chosen == ranks,
          "the mesh is data × context = {} × {}, which is not the {} ranks that were started",
          data > 0 ? std::to_string(data) : "?", context > 0 ? std::to_string(context) : "?", ranks);
  return chosen;
}

int agreed_context_size(Communicator& world, int data, int context) {
  int size = 0;
  collectively(world, [&] { size = context_size(world.size(), data, context); });
  return size;
}

}  // namespace

Mesh::Mesh(Communicator all, int data, int context_ranks)
    : world(std::move(all)),
      context(world.split(world.rank() / agreed_context_size(world, data, context_ranks), world.rank())),
      data_size(world.size() / context.size()),
      data_index(world.rank() / context.size()) {}

Traffic Mesh::traffic() const {
  const Traffic &of_world = world.traffic(), &of_context = context.traffic();
  return {of_world.bytes_sent + of_context.bytes_sent, of_world.messages_sent + of_context.messages_sent,
          of_world.exposed_s + of_context.exposed_s, of_world.hidden_s + of_context.hidden_s};
}

}  // namespace causeway
