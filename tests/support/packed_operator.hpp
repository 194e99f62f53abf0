#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/segments.hpp"
#include "tests/support/tensors.hpp"

/// The promises that every packed operator makes, as checks over a table of cases: a kernel's test says how its formula reads and how its kernels are
/// called, and gets the rest from here.
namespace causeway::test {

using Values = std::map<std::string, std::vector<double>>;
using Views = std::map<std::string, TensorView>;

/// The view of that name, or an absent one.
TensorView view(const Views& views, const std::string& name);
/// Its rows [begin, end), or an absent one.
TensorView rows(const Views& views, const std::string& name, std::int64_t begin, std::int64_t end);

struct PackedInput {
  std::string name;
  Shape shape;               ///< the first extent of a tokenwise one is the number of tokens
  bool tokenwise = true;
  bool accumulator = false;  ///< stays in the accumulator type
  double low = -1, high = 1;
};

/// One case of an operator y = f(inputs), linear in the input `linear_in`. There is always an input "d_y".
struct PackedCase {
  std::string name;
  std::vector<std::int64_t> cu_seqlens;
  std::vector<PackedInput> inputs;
  std::string linear_in;
  /// Fills "y" and "d_<input>" for every input but d_y: parameter gradients stand at zero before. The pack is worked off as runs cut at `cuts`.
  std::function<void(const Stream&, const Views& in, const Views& out, const Segments&, const std::vector<std::int64_t>& cuts)> run;
  /// The same by the formula, one document after the other.
  std::function<Values(const Values& in)> reference;

  std::int64_t tokens() const { return cu_seqlens.back(); }
};

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
NamedTensors run_case(const PackedCase& c, const Stream& stream, const NamedTensors& in, const std::vector<std::int64_t>& cuts = {});

struct Tolerances {
  double f64 = 1e-13, f32 = 2e-6, bf16 = 6e-3;
  double of(DType dtype) const { return dtype == DType::f64 ? f64 : dtype == DType::f32 ? f32 : bf16; }
};

void expect_equal_to_the_formula(const std::vector<PackedCase>& cases, Tolerances limits = {});
void expect_gradients_equal_to_finite_differences(const std::vector<PackedCase>& cases, double limit = 1e-7);
/// ⟨y, d_y⟩ = ⟨x, d_x⟩ for the input the case is linear in.
void expect_backward_is_the_adjoint(const std::vector<PackedCase>& cases, double limit = 1e-14);
void expect_packed_equal_to_one_document_at_a_time(const std::vector<PackedCase>& cases, Tolerances limits = {});
/// Cut at each token in turn, and at the next few besides.
void expect_cut_anywhere_equal_to_one_run(const std::vector<PackedCase>& cases, double limit = 1e-13);
/// The second of three documents is poisoned; `c` must have three, and neither result nor gradient of the others may change a bit.
void expect_non_finite_values_stay_in_their_document(const PackedCase& c, const std::vector<std::vector<std::int64_t>>& cuts = {{}});
void expect_same_bits_on_any_number_of_threads(const PackedCase& c);
/// Every input and output may be columns of a wider matrix.
void expect_row_strides_are_free(const std::vector<PackedCase>& cases);

}  // namespace causeway::test
