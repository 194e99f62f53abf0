#include "tests/support/dropping_transport.hpp"

#include <algorithm>
#include <vector>

namespace causeway::test {
namespace {

class DroppingTransport final : public Transport {
 public:
  DroppingTransport(std::unique_ptr<Transport> inner, bool drops) : inner_(std::move(inner)), drops_(drops) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  Pending start(std::span<const Transfer> transfers, const Stream& stream) override {
    auto pending = std::make_shared<Pending>(inner_->start(transfers, stream));
    std::vector<std::span<std::byte>> received;
    for (const Transfer& transfer : transfers)
      if (drops_ && transfer.peer != rank()) received.push_back(transfer.recv);
    return Pending([pending, received = std::move(received), stream] {
      pending->wait();
      for (const std::span<std::byte> bytes : received) stream.zero(bytes.data(), std::ssize(bytes));
    });
  }
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream) override {
    inner_->all_gather(send, recv, stream);
    if (!drops_) return;
    stream.zero(recv.data(), std::ssize(recv));
    stream.copy(recv.subspan(static_cast<std::size_t>(rank()) * send.size()).data(), send.data(), std::ssize(send));
  }
  void broadcast(std::span<std::byte> data, int root, const Stream& stream) override {
    inner_->broadcast(data, root, stream);
  }
  void all_reduce(void* data, std::int64_t count, DType type, Reduction op, const Stream& stream) override {
    inner_->all_reduce(data, count, type, op, stream);
  }
  void reduce_scatter(const void* send, void* recv, std::span<const std::int64_t> counts, DType type, Reduction op,
                      const Stream& stream) override {
    inner_->reduce_scatter(send, recv, counts, type, op, stream);
  }
  void barrier() override { inner_->barrier(); }
  std::unique_ptr<Transport> split(int color, int key) override {
    return std::make_unique<DroppingTransport>(inner_->split(color, key), true);
  }
  void abort(int exit_code) noexcept override { inner_->abort(exit_code); }

 private:
  std::unique_ptr<Transport> inner_;
  bool drops_;
};

}  // namespace

Communicator groups_receiving_zeros(Communicator& world) {
  return Communicator(std::make_unique<DroppingTransport>(world.transport().split(0, world.rank()), false));
}

}  // namespace causeway::test
