#include "io/checkpoint/checkpoint_writer.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "io/checkpoint/checkpoint_index.hpp"
#include "io/checkpoint/manifest.hpp"
#include "io/file/atomic_file.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

/// A shard's fingerprint on its way between the ranks.
struct Sealed {
  std::int64_t bytes = 0;
  std::array<char, 64> sha256{};
};

template <class T>
std::vector<T> gather(Communicator& ranks, std::span<const T> mine) {
  std::vector<T> all(mine.size() * static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(std::as_bytes(mine), std::as_writable_bytes(std::span(all)), Stream());
  return all;
}

bool ready(const auto& future) {
  return future.valid() && future.wait_for(std::chrono::seconds(0)) != std::future_status::timeout;
}

/// Takes what a future brings: its value to `value` or its exception to `failure`.
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

void write_manifest(const std::string& path, const Manifest& manifest) {
  std::ofstream file(path, std::ios::binary);
  file << manifest.to_json();
  file.close();
  if (!file) fail(ExitCode::io, "{}: cannot write: {}", path, std::strerror(errno));
  sync_to_disk(path);
}

}  // namespace

CheckpointWriter::CheckpointWriter(CheckpointWriterOptions options, Communicator& ranks, const Stream& stream)
    : options_(std::move(options)), ranks_(ranks), copy_(stream) {}

CheckpointWriter::~CheckpointWriter() { abandoned_ = true; }

void CheckpointWriter::start(std::int64_t step, const CheckpointContent& content) {
  ensure(!busy(), "a checkpoint is started while another is written");
  started_ = std::chrono::steady_clock::now();
  step_ = step;
  content_ = content;
  shard_.reset();
  published_.reset();
  try {
    collectively(ranks_, [&] {
      tell(CheckpointStage::copy, folder());
      if (ranks_.rank() == 0) prepare_checkpoint(options_.run, step_);
      std::vector<HostSlabs::Source> sources;
      for (const CheckpointTensor& tensor : content_.tensors)
        sources.push_back({tensor.data, tensor.owned.size() * size_of(tensor.dtype)});
      copy_.take(sources);
    });
  } catch (...) {
    if (ranks_.rank() == 0) discard_checkpoint(options_.run, step_);
    throw;
  }
  state_ = State::shards;
  run_aside(writing_, &CheckpointWriter::write_own_shard);
}

template <class Result>
void CheckpointWriter::run_aside(std::future<Result>& future, Result (CheckpointWriter::*work)()) {
  try {
    future = std::async(options_.beside ? std::launch::async : std::launch::deferred, work, this);
  } catch (...) {  // no more threads to be had: told to the others as any other failure
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
    if (sum.done == ranks_.size()) publish_once_all_are_there();
    return std::nullopt;
  }
  if (sum.done == 0) return std::nullopt;
  state_ = State::idle;
  tell(CheckpointStage::idle, (fs::path(options_.run) / step_folder(step_)).string());
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

Fingerprint CheckpointWriter::write_own_shard() {
  const std::string path = (fs::path(folder()) / shard_file(ranks_.rank())).string();
  tell(CheckpointStage::shard, path);
  std::vector<ShardTensor> tensors;
  for (const CheckpointTensor& tensor : content_.tensors)
    tensors.push_back({tensor.name, tensor.dtype, tensor.owned.size()});
  write_shard(
      path, tensors,
      [&](std::size_t tensor, std::int64_t begin, std::span<std::byte> out) { copy_.read(tensor, begin, out); },
      [&] { live(CheckpointStage::shard, path); });
  tell(CheckpointStage::hash, path);
  Fingerprint fingerprint = fingerprint_of(path, [&] { live(CheckpointStage::hash, path); });
  tell(CheckpointStage::hashed, path);
  return fingerprint;
}

void CheckpointWriter::publish_once_all_are_there() {
  std::vector<Range> own;
  for (const CheckpointTensor& tensor : content_.tensors) own.push_back(tensor.owned);
  owned_ = gather<Range>(ranks_, own);
  Sealed mine{.bytes = shard_->bytes};
  std::ranges::copy(shard_->sha256, mine.sha256.begin());
  files_.clear();
  for (const Sealed& shard : gather<Sealed>(ranks_, {&mine, 1}))
    files_.push_back({shard.bytes, {shard.sha256.begin(), shard.sha256.end()}});
  state_ = State::publishing;
  if (ranks_.rank() == 0) run_aside(publishing_, &CheckpointWriter::publish);
}

PublishedCheckpoint CheckpointWriter::publish() {
  const fs::path folder = this->folder();
  const std::string index = (folder / checkpoint_file(0)).string(), manifest_path = (folder / manifest_name).string();
  live(CheckpointStage::index, index);
  write_index(index, content_, owned_);
  Manifest manifest{.step = step_, .files = {fingerprint_of(index)}};
  manifest.files.insert(manifest.files.end(), files_.begin(), files_.end());
  live(CheckpointStage::manifest, manifest_path);
  write_manifest(manifest_path, manifest);
  sync_to_disk(folder.string());
  tell(CheckpointStage::publish, folder.string());
  publish_checkpoint(options_.run, step_, options_.hook);
  std::erase(options_.retention.damaged, step_);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started_;
  return {.step = step_,
          .bytes = manifest.bytes(),
          .seconds = seconds.count(),
          .not_removed = retire_checkpoints(options_.run, step_, options_.retention, options_.hook)};
}

void CheckpointWriter::fail_together() {
  abandoned_ = true;
  std::exception_ptr given_up;  // which is not why
  if (writing_.valid()) take(writing_, shard_, given_up);
  if (publishing_.valid()) take(publishing_, published_, given_up);
  abandoned_ = false;
  state_ = State::idle;
  const std::exception_ptr failure = std::exchange(failure_, nullptr);
  const auto clean_up = [&] {
    if (ranks_.rank() == 0) discard_checkpoint(options_.run, step_);
    tell(CheckpointStage::idle, folder());
  };
  try {
    collectively(ranks_, [&] {
      if (failure) std::rethrow_exception(failure);
    });
  } catch (...) {
    clean_up();
    throw;
  }
  fail(ExitCode::internal, "a checkpoint failed on no rank");
}

void CheckpointWriter::tell(CheckpointStage stage, const std::string& path) const {
  if (options_.hook) options_.hook(stage, path);
}

/// Between pieces of work: a sign of life, and the place to end where nobody wants the rest.
void CheckpointWriter::live(CheckpointStage stage, const std::string& path) const {
  tell(stage, path);
  if (abandoned_) fail(ExitCode::io, "{}: given up", folder());
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
