#include "src/infer/score_request.hpp"

#include <algorithm>
#include <charconv>

namespace causeway {
namespace {

EmbeddingRequest parse_one(const std::string& text, std::int64_t layers) {
  EmbeddingRequest request;
  const std::size_t colon = std::min(text.find(':'), text.size());
  const auto [stop, error] = std::from_chars(text.data(), text.data() + colon, request.layer);
  const std::string kind = colon == text.size() ? "mean" : text.substr(colon + 1);
  request.mean = kind == "mean";
  require(error == std::errc() && stop == text.data() + colon && (kind == "mean" || kind == "tokens"),
          "--embeddings is '{}', expected LAYER, LAYER:mean or LAYER:tokens", text);
  require(request.layer >= 0 && request.layer <= layers,
          "--embeddings names layer {}, expected 0 (the embedding) to {}", request.layer, layers);
  return request;
}

}  // namespace

std::vector<EmbeddingRequest> EmbeddingRequest::parse(const std::vector<std::string>& texts, std::int64_t layers) {
  std::vector<EmbeddingRequest> requests;
  for (const std::string& text : texts)
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find(',', begin), text.size());
      const EmbeddingRequest request = parse_one(text.substr(begin, end - begin), layers);
      require(std::ranges::find(requests, request.layer, &EmbeddingRequest::layer) == requests.end(),
              "--embeddings names layer {} twice, expected each layer once", request.layer);
      requests.push_back(request);
      begin = end + 1;
    }
  return requests;
}

}  // namespace causeway
