#include "kernels/core/trace.hpp"

#include <exception>

#if CAUSEWAY_CUDA
#include <nvtx3/nvToolsExt.h>
#endif

namespace causeway {

Trace::Trace(const Stream& stream)
    : stream_(stream), host_(stream.device() == Device::cpu ? stream : Stream()), origin_(host_, true), base_([&] {
        stream.wait();
        return Event(stream, true);
      }()) {}

void Trace::add(std::string_view name, std::string_view category, TraceLane lane, const Event& begin, const Event& end,
                std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (spans_.size() + open_.size() >= most_spans) {
    ++dropped_;
    return;
  }
  open_.push_back({.name = std::string(name), .category = category, .lane = lane, .bytes = bytes});
  events_.push_back({begin, end});
}

void Trace::wait_for_times() {
  stream_.wait();
  const std::lock_guard lock(mutex_);
  const double base_s = base_.seconds_since(origin_);
  for (std::size_t i = 0; i < open_.size(); ++i) {
    open_[i].begin_s = base_s + events_[i].begin.seconds_since(base_);
    open_[i].end_s = base_s + events_[i].end.seconds_since(base_);
    spans_.push_back(std::move(open_[i]));
  }
  open_.clear();
  events_.clear();
  base_ = Event(stream_, true);
  base_.wait();
}

double Trace::seconds() const { return Event(host_, true).seconds_since(origin_); }

void TracedScope::open(const Stream& stream, std::string_view name, std::string_view category) {
  if (category == "range" && stream.trace()->before_range_) stream.trace()->before_range_();
  opened_.emplace(Opened{&stream, std::string(name), category, Event(stream, true)});
}

void TracedScope::close() {
  Trace* const trace = opened_->stream->trace();
  if (trace == nullptr || std::uncaught_exceptions() > 0) return;
  trace->add(opened_->name, opened_->category, lane_of(*opened_->stream), opened_->begin,
             Event(*opened_->stream, true));
}

ProfileRange::ProfileRange([[maybe_unused]] const std::string& name) {
#if CAUSEWAY_CUDA
  nvtxRangePushA(name.c_str());
#endif
}

ProfileRange::ProfileRange(const Stream& stream, const std::string& name) : ProfileRange(name) {
  traced_.emplace(stream, name, "range");
}

ProfileRange::~ProfileRange() {
#if CAUSEWAY_CUDA
  nvtxRangePop();
#endif
}

}  // namespace causeway
