#include "io/checkpoint/checkpoint_writer.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "io/checkpoint/checkpoint_index.hpp"
#include "io/checkpoint/manifest.hpp"
#include "io/file/atomic_file.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

/// A shard's Fingerprint as plain bytes, for the communication between ranks.
struct PackedFingerprint {
  std::int64_t bytes = 0;
  std::array<char, 64> sha256{};
};

/// The values of all ranks on rank 0, which writes the index; nothing on the others. With thousands of ranks the ranges
/// of all tensors are tens of MB, which an all-gather would send to each of them.
template <class T>
std::vector<T> gather_on_first(Communicator& ranks, std::span<const T> mine) {
  std::vector<T> all;
  std::vector<Transfer> transfers;
  if (ranks.rank() != 0) {
    transfers.push_back({.peer = 0, .send = std::as_bytes(mine), .recv = {}});
  } else {
    all.resize(mine.size() * static_cast<std::size_t>(ranks.size()));
    std::ranges::copy(mine, all.begin());
    for (int peer = 1; peer < ranks.size(); ++peer)
      transfers.push_back({.peer = peer,
                           .send = {},
                           .recv = std::as_writable_bytes(
                               std::span(all).subspan(static_cast<std::size_t>(peer) * mine.size(), mine.size()))});
  }
  ranks.exchange(transfers, Stream());
  return all;
}

bool ready(const auto& future) {
  return future.valid() && future.wait_for(std::chrono::seconds(0)) != std::future_status::timeout;
}

/// Moves a future's value to `value`, or its exception to `failure`.
template <class Result>
void take(std::future<Result>& future, std::optional<Result>& value, std::exception_ptr& failure) {
  try {
    value = future.get();
  } catch (const fs::filesystem_error& error) {
    failure = std::make_exception_ptr(Error(ExitCode::io, error.what()));
  } catch (...) {
    failure = std::current_exception();
  }
}

}  // namespace

CheckpointWriter::CheckpointWriter(CheckpointWriterOptions options, Communicator& ranks, const Stream& stream)
    : options_(std::move(options)), ranks_(ranks), snapshot_(stream) {}

CheckpointWriter::~CheckpointWriter() { cancelled_ = true; }

void CheckpointWriter::start(std::int64_t step, const CheckpointContent& content) {
  ensure(!busy(), "a checkpoint is started while another one is being written");
  started_ = std::chrono::steady_clock::now();
  step_ = step;
  content_ = content;
  shard_.reset();
  published_.reset();
  try {
    collectively(ranks_, [&] {
      report_stage(CheckpointStage::copy, folder());
      if (ranks_.rank() == 0) {
        prepare_checkpoint(options_.run, step_);
        mark_.emplace((fs::path(folder()) / writer_mark).string());
      }
      std::vector<HostSnapshot::Source> sources;
      for (const CheckpointTensor& tensor : content_.tensors)
        sources.push_back({tensor.data, tensor.owned.size() * size_of(tensor.dtype)});
      snapshot_.take(sources);
    });
  } catch (...) {
    mark_.reset();
    if (ranks_.rank() == 0) discard_checkpoint(options_.run, step_);
    throw;
  }
  state_ = State::shards;
  run_on_writer_thread(writing_, &CheckpointWriter::write_this_ranks_shard);
}

template <class Result>
void CheckpointWriter::run_on_writer_thread(std::future<Result>& future, Result (CheckpointWriter::*work)()) {
  try {
    future = std::async(options_.on_own_thread ? std::launch::async : std::launch::deferred, work, this);
  } catch (...) {  // no thread could be started: reported to the other ranks like any failure
    failure_ = std::current_exception();
  }
}

CheckpointProgress CheckpointWriter::progress() {
  if (ready(writing_)) take(writing_, shard_, failure_);
  if (ready(publishing_)) take(publishing_, published_, failure_);
  const bool done = state_ == State::shards ? shard_.has_value() : published_.has_value();
  return {.done = done ? 1.0 : 0.0, .failed = failure_ ? 1.0 : 0.0};
}

std::optional<PublishedCheckpoint> CheckpointWriter::advance(CheckpointProgress sum) {
  if (state_ == State::idle) return std::nullopt;
  if (sum.failed > 0) fail_together();
  if (state_ == State::shards) {
    if (sum.done == ranks_.size()) start_publishing();
    return std::nullopt;
  }
  if (sum.done == 0) return std::nullopt;
  state_ = State::idle;
  report_stage(CheckpointStage::idle, (fs::path(options_.run) / step_folder(step_)).string());
  return published_ ? std::move(published_) : PublishedCheckpoint{.step = step_};
}

std::optional<PublishedCheckpoint> CheckpointWriter::finish() {
  std::optional<PublishedCheckpoint> published;
  while (busy()) {
    if (writing_.valid()) writing_.wait();
    if (publishing_.valid()) publishing_.wait();
    const CheckpointProgress own = progress();
    const double done = ranks_.sum(own.done), failed = ranks_.sum(own.failed);
    published = advance({.done = done, .failed = failed});
  }
  return published;
}

Fingerprint CheckpointWriter::write_this_ranks_shard() {
  const std::string path = (fs::path(folder()) / shard_file(ranks_.rank())).string();
  report_stage(CheckpointStage::shard, path);
  std::vector<ShardTensor> tensors;
  for (const CheckpointTensor& tensor : content_.tensors)
    tensors.push_back({tensor.name, tensor.type_in_file(), tensor.owned.size()});
  write_shard(
      path, tensors,
      [&](std::size_t tensor, std::int64_t begin, std::span<std::byte> out) { read_from_snapshot(tensor, begin, out); },
      [&] { report_stage_or_stop(CheckpointStage::shard, path); });
  report_stage(CheckpointStage::hash, path);
  Fingerprint fingerprint = fingerprint_of(path, [&] { report_stage_or_stop(CheckpointStage::hash, path); });
  report_stage(CheckpointStage::hashed, path);
  return fingerprint;
}

/// Elements of the copy as the file has them: bf16 as f32.
void CheckpointWriter::read_from_snapshot(std::size_t tensor, std::int64_t begin, std::span<std::byte> out) const {
  if (content_.tensors[tensor].dtype != DType::bf16) return snapshot_.read(tensor, begin, out);
  constexpr std::int64_t stored_bytes = size_of(DType::f32), bytes = size_of(DType::bf16);
  std::vector<bf16> values(out.size() / stored_bytes);
  snapshot_.read(tensor, begin / stored_bytes * bytes, std::as_writable_bytes(std::span(values)));
  const std::vector<float> wide(values.begin(), values.end());
  std::ranges::copy(std::as_bytes(std::span(wide)), out.begin());
}

void CheckpointWriter::start_publishing() {
  std::vector<Range> own;
  for (const CheckpointTensor& tensor : content_.tensors) own.push_back(tensor.owned);
  owned_ = gather_on_first<Range>(ranks_, own);
  PackedFingerprint mine{.bytes = shard_->bytes};
  std::ranges::copy(shard_->sha256, mine.sha256.begin());
  files_.clear();
  for (const PackedFingerprint& shard : gather_on_first<PackedFingerprint>(ranks_, {&mine, 1}))
    files_.push_back({shard.bytes, {shard.sha256.begin(), shard.sha256.end()}});
  state_ = State::publishing;
  if (ranks_.rank() == 0) run_on_writer_thread(publishing_, &CheckpointWriter::publish);
}

PublishedCheckpoint CheckpointWriter::publish() {
  const fs::path folder = this->folder();
  const std::string index = (folder / checkpoint_file(0)).string(), manifest_path = (folder / manifest_name).string();
  report_stage_or_stop(CheckpointStage::index, index);
  write_index(index, content_, owned_);
  Manifest manifest{.step = step_, .files = {fingerprint_of(index)}};
  manifest.files.insert(manifest.files.end(), files_.begin(), files_.end());
  report_stage_or_stop(CheckpointStage::manifest, manifest_path);
  write_text(manifest_path, manifest.to_json());
  mark_.reset();
  sync_to_disk(folder.string());
  report_stage(CheckpointStage::publish, folder.string());
  publish_checkpoint(options_.run, step_, options_.hook);
  std::erase(options_.retention.damaged, step_);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started_;
  return {.step = step_,
          .bytes = manifest.bytes(),
          .seconds = seconds.count(),
          .not_removed = retire_checkpoints(options_.run, step_, options_.retention, options_.hook)};
}

void CheckpointWriter::fail_together() {
  cancelled_ = true;
  std::exception_ptr cancelled;  // not the cause
  if (writing_.valid()) take(writing_, shard_, cancelled);
  if (publishing_.valid()) take(publishing_, published_, cancelled);
  cancelled_ = false;
  state_ = State::idle;
  const std::exception_ptr failure = std::exchange(failure_, nullptr);
  const auto clean_up = [&] {
    mark_.reset();
    if (ranks_.rank() == 0) discard_checkpoint(options_.run, step_);
    report_stage(CheckpointStage::idle, folder());
  };
  try {
    collectively(ranks_, [&] {
      if (failure) std::rethrow_exception(failure);
    });
  } catch (...) {
    clean_up();
    throw;
  }
  fail(ExitCode::internal, "a checkpoint failed, but no rank has an error");
}

void CheckpointWriter::report_stage(CheckpointStage stage, const std::string& path) const {
  if (options_.hook) options_.hook(stage, path);
}

/// Called between pieces of work: reports progress to the hook, and throws if the checkpoint was abandoned.
void CheckpointWriter::report_stage_or_stop(CheckpointStage stage, const std::string& path) const {
  report_stage(stage, path);
  if (cancelled_) fail(ExitCode::io, "{}: abandoned", folder());
}

std::string CheckpointWriter::folder() const {
  return (fs::path(options_.run) / (step_folder(step_) + ".tmp")).string();
}

PublishedCheckpoint write_checkpoint(const std::string& run, std::int64_t step, const CheckpointContent& content,
                                     Communicator& ranks, const Stream& stream) {
  CheckpointWriter writer({.run = run}, ranks, stream);
  writer.start(step, content);
  return writer.finish().value();
}

}  // namespace causeway
