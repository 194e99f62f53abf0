#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "parallel/strategy.hpp"

/// All rows of all tables of strategies in one form, so that each test is written once and a new row is tested without
/// a new test.
namespace causeway::test {

using Tensors = std::map<std::string, Tensor>;
using Values = std::map<std::string, std::vector<double>>;

/// A strategy of an operator with one schedule and method.
struct StrategyCase {
  std::string name;      ///< of the test instance
  std::string strategy;  ///< "<operator> <strategy>"
  std::span<const Layout> layouts;
  Schedule schedule = Schedule::automatic;
  Method method = Method::automatic;
  /// The input in which y is linear, so that ⟨y, d_y⟩ = ⟨input, d_input⟩; empty if y is linear in none.
  std::string linear_in;
  /// The inputs of a whole pack and d_y, by the names of the operator's arguments.
  std::function<Tensors(const Stream&, DType, std::int64_t tokens, std::uint64_t seed)> inputs;
  /// Forward and backward over the ranks on this rank's rows: y and d_<input>. The tensors are in host memory, even if
  /// the context's stream computes on a GPU.
  std::function<Tensors(const StrategyContext&, const Tensors& local)> run;
  /// Forward only, with nothing saved: y.
  std::function<Tensor(const StrategyContext&, const Tensors& local)> run_forward;
  /// The cost of a forward pass by the table's function.
  std::function<Cost(const Sharding&, const Tensors& local)> cost;
  /// Forward and backward by the operator's kernel on the whole pack: the reference.
  std::function<Tensors(const Stream&, const Segments&, const Tensors& whole)> run_on_one_rank;
};
const std::vector<StrategyCase>& every_strategy_case();

/// The context in which a case runs.
inline StrategyContext context_of(const StrategyCase& strategy, const Sharding& sharding, Communicator& ranks,
                                  const Stream& stream) {
  return {sharding, ranks, stream, strategy.schedule, strategy.method};
}

/// Whether an input or output has a row for each token; the others are parameters.
bool per_token(const std::string& name);

/// This rank's rows of a whole pack's inputs; parameters are copied.
Tensors local_inputs(const Stream& stream, const Sharding& sharding, const Tensors& whole);

}  // namespace causeway::test
