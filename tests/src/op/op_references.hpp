#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

/// The operators of `causeway op` again, written as their formulas in float64. They share no code with what is tested.
/// Result files are compared with them.
namespace causeway::test {

using Values = std::map<std::string, std::vector<double>>;

struct ReferenceCase {
  std::int64_t T = 0, D = 0, N = 0;  ///< D: channels, or heads; N: states, taps, or channels per head
  std::vector<std::int64_t> cu_seqlens;
  std::map<std::string, std::string> attributes;
  Values inputs;  ///< also d_y; without absent optional inputs
  std::map<std::string, std::vector<std::int64_t>> shapes;
};

/// A random case of one operator, with all optional inputs or none; and the expected results: y and d_INPUT for each
/// input.
struct Reference {
  std::function<ReferenceCase(std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional)> make;
  std::function<Values(const ReferenceCase&)> expect;
};
const std::map<std::string, Reference>& op_references();

}  // namespace causeway::test
