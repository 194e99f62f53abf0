#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "kernels/core/segments.hpp"
#include "tests/support/tensors.hpp"

/// The properties that every packed operator must have, as checks over a table of cases. A kernel's test supplies the
/// formula and calls the kernels; these checks do the rest.
namespace causeway::test {

using Values = std::map<std::string, std::vector<double>>;
using Views = std::map<std::string, TensorView>;

/// The view of that name, or an absent one.
TensorView view(const Views& views, const std::string& name);
/// Its rows [begin, end), or an absent one.
TensorView rows(const Views& views, const std::string& name, std::int64_t begin, std::int64_t end);

/// An input of an operator, filled with random numbers of [low, high).
struct PackedInput {
  std::string name;
  Shape shape;  ///< the first extent of a tokenwise one is the number of tokens
  bool tokenwise = true;
  bool accumulator = false;  ///< is in the accumulator type for every dtype
  double low = -1, high = 1;
};

/// One case of an operator y = f(inputs), linear in the input `linear_in`. There is always an input "d_y".
struct PackedCase {
  std::string name;
  std::vector<std::int64_t> cu_seqlens;
  std::vector<PackedInput> inputs;
  std::string linear_in;
  /// Computes "y" and "d_<input>" for every input except d_y. Parameter gradients are zero before. The pack is
  /// processed as runs that begin at `cuts`.
  std::function<void(const Stream&, const Views& in, const Views& out, const Segments&,
                     const std::vector<std::int64_t>& cuts)>
      run;
  /// The same values by the formula, document by document.
  std::function<Values(const Values& in)> reference;

  std::int64_t tokens() const { return cu_seqlens.back(); }
};

/// The rows of a test's own table as cases, made by the test's packed(const Row&).
template <class Row>
std::vector<PackedCase> packed_cases(const std::vector<Row>& table) {
  std::vector<PackedCase> result;
  for (const Row& row : table) result.push_back(packed(row));
  return result;
}

/// cu_seqlens of at least `tokens` tokens, in documents of growing length: 1 + (tokens so far) / slowness each.
std::vector<std::int64_t> growing_documents(std::int64_t tokens, std::int64_t slowness = 7);

/// Consecutive tokens [begin, end) of a pack, for operators that process a pack run by run.
struct PackedRun {
  std::int64_t begin, end;
  std::vector<std::int64_t> cu_seqlens;  ///< in run rows

  std::int64_t tokens() const { return end - begin; }
  SegmentsView segments() const { return segments_view(cu_seqlens, tokens()); }
  /// The run is part of one document that begins before it and ends after it.
  bool inside_a_document() const {
    return segments().count == 1 && segments().continues_from_left() && segments().continues_to_right();
  }
};
std::vector<PackedRun> runs_of(const Segments& segments, const std::vector<std::int64_t>& cuts);

/// Tensors by name, and views of them.
class NamedTensors {
 public:
  void add(const std::string& name, Tensor tensor) { tensors_[name] = std::move(tensor); }
  TensorView operator[](const std::string& name) const { return tensors_.at(name).view(); }
  Views views() const;
  Values values() const;

 private:
  std::map<std::string, Tensor> tensors_;
};

NamedTensors inputs_of(const PackedCase& c, const Stream& stream, DType dtype, std::uint64_t seed = 1);
NamedTensors run_case(const PackedCase& c, const Stream& stream, const NamedTensors& in,
                      const std::vector<std::int64_t>& cuts = {});

struct Tolerances {
  double f64 = 1e-13, f32 = 2e-6, bf16 = 6e-3;
  double of(DType dtype) const { return dtype == DType::f64 ? f64 : dtype == DType::f32 ? f32 : bf16; }
};

/// y and every gradient equal the formula.
void expect_equal_to_the_formula(const std::vector<PackedCase>& cases, Tolerances limits = {});
/// Only for cases whose inputs have at most `most` elements each.
void expect_gradients_equal_to_finite_differences(const std::vector<PackedCase>& cases, double limit = 1e-7,
                                                  std::int64_t most = 260);
/// ⟨y, d_y⟩ = ⟨x, d_x⟩ for the input that the case is linear in.
void expect_backward_is_the_adjoint(const std::vector<PackedCase>& cases, double limit = 1e-14);
void expect_packed_equal_to_one_document_at_a_time(const std::vector<PackedCase>& cases, Tolerances limits = {});
/// Tokenwise results have the same bits; gradients of parameters, whose sums have another order, are within the limits.
void expect_packed_equal_to_one_document_at_a_time_bit_for_bit(const std::vector<PackedCase>& cases,
                                                               Tolerances of_sums);
/// Cut at each token in turn, and a second time `apart` tokens later.
void expect_cut_anywhere_equal_to_one_run(const std::vector<PackedCase>& cases, double limit = 1e-13,
                                          const std::vector<std::int64_t>& apart = {0, 1, 5});
/// Tokenwise results are overwritten; gradients of parameters are added to.
void expect_results_are_written_and_parameter_gradients_added_to(const std::vector<PackedCase>& cases);
/// `c` has one document. A NaN in a token's inputs changes y of that token and of the next `reach` - 1 tokens. A NaN in
/// its d_y changes the gradient of the linear input of that token and of the `reach` - 1 tokens before. No result and
/// no gradient of any other token changes.
void expect_a_token_depends_only_on_earlier_tokens(const PackedCase& c,
                                                   std::int64_t reach = std::numeric_limits<std::int32_t>::max());
/// `c` has three documents. NaN and infinities in the second one change no bit of a result or gradient of the others.
void expect_non_finite_values_stay_in_their_document(const PackedCase& c,
                                                     const std::vector<std::vector<std::int64_t>>& cuts = {{}});
void expect_same_bits_on_any_number_of_threads(const PackedCase& c, const std::vector<std::int64_t>& cuts = {});
/// Every input and output may be columns of a wider matrix.
void expect_row_strides_are_free(const std::vector<PackedCase>& cases);

}  // namespace causeway::test
