#pragma once

#include <memory>
#include <utility>

#include "parallel/transport/transport.hpp"

namespace causeway::test {

/// A transport that passes every call on to another one: tests override what is to be different.
class ForwardingTransport : public Transport {
 public:
  explicit ForwardingTransport(std::unique_ptr<Transport> inner) : inner_(std::move(inner)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  Pending start(std::span<const Transfer> transfers, const Stream& stream) override {
    return inner_->start(transfers, stream);
  }
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv, const Stream& stream) override {
    inner_->all_gather(send, recv, stream);
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
  std::unique_ptr<Transport> split(int color, int key) override { return inner_->split(color, key); }
  void abort(int exit_code) noexcept override { inner_->abort(exit_code); }

 protected:
  Transport& inner() { return *inner_; }

 private:
  std::unique_ptr<Transport> inner_;
};

}  // namespace causeway::test
