#include "kernels/core/segments.hpp"

#include <algorithm>

namespace causeway {

std::int64_t SegmentsView::document_of(std::int64_t t) const {
  return std::upper_bound(host, host + count + 1, t) - host - 1;
}

void require_documents_in_order(std::span<const std::int64_t> cu_seqlens, const std::string& where) {
  require(!cu_seqlens.empty(), "{}: is empty, expected at least one value", where);
  require(cu_seqlens.front() == 0, "{}: starts at {}, expected 0", where, cu_seqlens.front());
  for (std::size_t s = 1; s < cu_seqlens.size(); ++s)
    require(cu_seqlens[s] >= cu_seqlens[s - 1], "{}: value {} is {} after {}, expected no decrease", where, s,
            cu_seqlens[s], cu_seqlens[s - 1]);
}

Segments::Segments(std::vector<std::int64_t> cu_seqlens, const std::string& where)
    : cu_seqlens_(std::move(cu_seqlens)) {
  require_documents_in_order(cu_seqlens_, where);
}

Segments Segments::equal_documents(std::int64_t tokens, std::int64_t count) {
  std::vector<std::int64_t> cu_seqlens;
  for (std::int64_t d = 0; d <= count; ++d) cu_seqlens.push_back(tokens * d / count);
  return Segments(std::move(cu_seqlens));
}

Segments Segments::of_lengths(std::span<const std::int64_t> lengths) {
  std::vector<std::int64_t> cu_seqlens{0};
  cu_seqlens.reserve(lengths.size() + 1);
  for (const std::int64_t length : lengths) cu_seqlens.push_back(cu_seqlens.back() + length);
  return Segments(std::move(cu_seqlens));
}

std::int64_t Segments::end_of(std::int64_t t) const {
  return *std::upper_bound(cu_seqlens_.begin(), cu_seqlens_.end(), t);
}
std::int64_t Segments::start_of(std::int64_t t) const {
  return *(std::upper_bound(cu_seqlens_.begin(), cu_seqlens_.end(), t) - 1);
}

std::vector<std::int64_t> Segments::positions(std::int64_t begin, std::int64_t end) const {
  std::vector<std::int64_t> result;
  result.reserve(static_cast<std::size_t>(end - begin));
  for (std::int64_t t = begin; t < end;) {
    const std::int64_t start = start_of(t), stop = std::min(end_of(t), end);
    for (; t < stop; ++t) result.push_back(t - start);
  }
  return result;
}

std::vector<std::int64_t> Segments::slice(std::int64_t begin, std::int64_t end) const {
  std::vector<std::int64_t> result;
  if (begin >= end) return {0};
  result.push_back(start_of(begin) - begin);
  for (auto next = std::upper_bound(cu_seqlens_.begin(), cu_seqlens_.end(), begin); next != cu_seqlens_.end(); ++next) {
    if (*next - begin != result.back()) result.push_back(*next - begin);
    if (*next >= end) break;
  }
  return result;
}

DeviceSegments::DeviceSegments(const Stream& stream, std::vector<std::int64_t> cu_seqlens, std::int64_t tokens)
    : host_(std::move(cu_seqlens)), tokens_(tokens) {
  if (stream.device() == Device::cpu) return;
  device_ = Tensor(stream, DType::i64, {static_cast<std::int64_t>(host_.size())});
  stream.upload(device_.view().data, host_.data(), device_.view().bytes());
}

SegmentsView DeviceSegments::view() const {
  SegmentsView result = segments_view(host_, tokens_);
  if (device_.present()) result.cu_seqlens = device_.view().row<const std::int64_t>(0);
  return result;
}

}  // namespace causeway
