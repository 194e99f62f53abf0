#include "src/runtime/rank_stream.hpp"

#include <optional>

#include "parallel/transport/device_transport.hpp"

namespace causeway {

Stream make_rank_stream(Device device, Communicator& ranks) {
  if (device == Device::cuda) select_gpu(ranks.transport());
  std::optional<Stream> stream;
  collectively(ranks, [&] { stream.emplace(device); });
  return *std::move(stream);
}

}  // namespace causeway
