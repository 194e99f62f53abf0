#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

/// The operators of `causeway op` written down once more, as their formulas read, in float64 and without any sharing of
/// code with what is tested: what a result file is held against.
namespace causeway::test {

using Values = std::map<std::string, std::vector<double>>;

struct ReferenceCase {
  std::int64_t T = 0, D = 0, N = 0;  ///< D: channels, or heads; N: states, taps, or numbers a head
  std::vector<std::int64_t> cu_seqlens;
  std::map<std::string, std::string> attributes;
  Values inputs;  ///< d_y too; absent optional ones are not in it
  std::map<std::string, std::vector<std::int64_t>> shapes;
};

/// A case of random numbers for one operator, every optional input there or none, and what it must give: y and d_INPUT
/// for each.
struct Reference {
  std::function<ReferenceCase(std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional)> make;
  std::function<Values(const ReferenceCase&)> expect;
};
const std::map<std::string, Reference>& op_references();

}  // namespace causeway::test
