#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "parallel/strategy.hpp"

/// Every strategy of every table, brought to one form, so that a test is written once and a new row is tested without a
/// new test.
namespace causeway::test {

using Tensors = std::map<std::string, Tensor>;
using Values = std::map<std::string, std::vector<double>>;

/// A strategy with one choice of what it can be asked for.
struct Subject {
  std::string name;
  std::string strategy;
  std::span<const Layout> layouts;
  Schedule schedule = Schedule::automatic;
  Method method = Method::automatic;
  /// The input in which y is linear, so that ⟨y, d_y⟩ = ⟨input, d_input⟩; empty if y is not linear in any.
  std::string linear_in;
  /// A whole pack's inputs, `d_y` among them, by the names of the operator's arguments.
  std::function<Tensors(const Stream&, DType, std::int64_t tokens, std::uint64_t seed)> inputs;
  /// Forward and backward over the ranks, on this rank's rows: y and d_<input>. Tensors are in host memory whatever
  /// the context's stream computes on.
  std::function<Tensors(const StrategyContext&, const Tensors& local)> sharded;
  /// Forward alone, with nothing saved.
  std::function<Tensor(const StrategyContext&, const Tensors& local)> scored;
  /// What the table says that a forward pass costs.
  std::function<Cost(const Sharding&, const Tensors& local)> cost;
  /// Forward and backward by the kernel, on the whole pack.
  std::function<Tensors(const Stream&, const Segments&, const Tensors& whole)> alone;
};
std::vector<Subject> every_subject();

/// The context a subject runs in.
inline StrategyContext context_of(const Subject& subject, const Sharding& sharding, Communicator& ranks,
                                  const Stream& stream) {
  return {sharding, ranks, stream, subject.schedule, subject.method};
}

/// Whether an input or output has a row a token; the others are parameters.
bool per_token(const std::string& name);

}  // namespace causeway::test
