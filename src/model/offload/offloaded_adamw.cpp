#include "src/model/offload/offloaded_adamw.hpp"

#include <algorithm>
#include <cmath>
#include <exception>

#include "kernels/activation.hpp"
#include "kernels/core/event.hpp"
#include "kernels/core/gpu.hpp"
#include "kernels/core/threads.hpp"
#include "kernels/expect_adamw.hpp"

namespace causeway {

OffloadedAdamW::OffloadedAdamW(const Stream& stream, std::int64_t piece)
    : stream_(stream),
      host_(stream.host()),
      piece_(piece),
      queues_{Queue{stream.side_stream(), {}, {}, {}}, Queue{stream.side_stream(), {}, {}, {}}} {
  for (Queue& queue : queues_) queue.factor = Tensor(host_, DType::f64, {1});
}

/// Host memory is free for others when it is released: nothing may use it any more. While an exception unwinds, the
/// queues might wait for ranks that have failed.
OffloadedAdamW::~OffloadedAdamW() {
  if (std::uncaught_exceptions() > 0) return;
  try {
    for (const Queue& queue : queues_) queue.stream.wait();
  } catch (const std::exception&) {  // of a device that failed: nothing runs there any more
  }
}

void OffloadedAdamW::begin(TensorView factor) {
  for (const Queue& queue : queues_) stream_.copy(queue.factor.view().data, factor.data, factor.bytes());
  const Event ready(stream_);
  for (const Queue& queue : queues_) ready.block(queue.stream);
}

/// Buffers grow in the first step only; a queue that still uses smaller ones is waited for.
void OffloadedAdamW::stage(Queue& queue, std::int64_t bytes) const {
  if (queue.gradient.view().bytes() >= bytes) return;
  queue.stream.wait();
  for (Tensor* buffer : {&queue.gradient, &queue.weights}) *buffer = Tensor(host_, DType::u8, {bytes});
}

void OffloadedAdamW::update(AdamW args) {
  expect_adamw(args);
  const DType wide = args.master.dtype;
  const std::int64_t size = args.master.size();
  for (std::int64_t begin = 0; begin < size; begin += piece_) {
    const std::int64_t count = std::min(piece_, size - begin);
    Queue& queue = queues_[next_++ % queues_.size()];
    stage(queue, count * size_of(wide));
    const auto here = [&](TensorView flat) { return flat.slice_rows(begin, count); };
    AdamW piece = args;
    piece.factor = queue.factor;
    piece.gradient = view_of(queue.gradient.view().data, wide, {count});
    piece.weights = view_of(queue.weights.view().data, args.weights.dtype, {count});
    piece.master = here(args.master);
    piece.exp_avg = here(args.exp_avg);
    piece.exp_avg_sq = here(args.exp_avg_sq);
    queue.stream.copy(piece.gradient.data, here(args.gradient).data, piece.gradient.bytes());
    call_on_host(queue.stream, [piece, host = Stream(), threads = computing_threads()] {
      set_threads(threads);  // of this thread
      adamw(host, piece);
      // AdamW has written no weights; those of the master weights are the old ones.
      if (!std::isfinite(piece.factor.as<double>()[0])) scale(host, {.x = piece.master, .y = piece.weights});
    });
    queue.stream.copy(here(args.weights).data, piece.weights.data, piece.weights.bytes());
  }
}

std::function<void(const Stream&)> OffloadedAdamW::done() const {
  return [first = Event(queues_[0].stream), second = Event(queues_[1].stream)](const Stream& stream) {
    first.block(stream);
    second.block(stream);
  };
}

std::int64_t OffloadedAdamW::staging_bytes(std::int64_t elements, DType wide) {
  return 4 * std::min(elements, default_piece) * size_of(wide);
}

}  // namespace causeway
