#include "tests/support/dropping_transport.hpp"

#include <algorithm>
#include <vector>

#include "tests/support/forwarding_transport.hpp"

namespace causeway::test {
namespace {

class DroppingTransport final : public ForwardingTransport {
 public:
  DroppingTransport(std::unique_ptr<Transport> inner, bool drops)
      : ForwardingTransport(std::move(inner)), drops_(drops) {}

  Pending start(std::span<const Transfer> transfers, const Stream& stream) override {
    auto pending = std::make_shared<Pending>(inner().start(transfers, stream));
    std::vector<std::span<std::byte>> received;
    for (const Transfer& transfer : transfers)
      if (drops_ && transfer.peer != rank()) received.push_back(transfer.recv);
    return Pending([pending, received = std::move(received), stream] {
      pending->wait();
      for (const std::span<std::byte> bytes : received) stream.zero(bytes.data(), std::ssize(bytes));
    });
  }
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream) override {
    inner().all_gather(send, recv, stream);
    if (!drops_) return;
    stream.zero(recv.data(), std::ssize(recv));
    stream.copy(recv.subspan(static_cast<std::size_t>(rank()) * send.size()).data(), send.data(), std::ssize(send));
  }
  std::unique_ptr<Transport> split(int color, int key) override {
    return std::make_unique<DroppingTransport>(inner().split(color, key), true);
  }

 private:
  bool drops_;
};

}  // namespace

Communicator groups_receiving_zeros(Communicator& world) {
  return Communicator(std::make_unique<DroppingTransport>(world.transport().split(0, world.rank()), false));
}

}  // namespace causeway::test
