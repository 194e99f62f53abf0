#include "kernels/attention.hpp"

#include "src/op/case_file.hpp"
#include "src/op/table.hpp"

namespace causeway {
namespace {

double rope_base_of(const OpAttributes& attributes) { return number_attribute(attributes, "rope_base"); }

OperatorArguments arguments(const OpViews& in, const OpAttributes& attributes, TensorView y) {
  return RotaryAttentionForward{.q = find_tensor(in, "q"),
                                .k = find_tensor(in, "k"),
                                .v = find_tensor(in, "v"),
                                .rope_base = rope_base_of(attributes),
                                .y = y};
}

void backward(const OpPass& pass, TensorView d_y, const OpViews& gradients, Saved& saved) {
  const OpViews& in = pass.inputs;
  find_strategy(attention_strategies(), "attention", pass.strategy)
      .backward(pass.context,
                {.q = find_tensor(in, "q"),
                 .k = find_tensor(in, "k"),
                 .v = find_tensor(in, "v"),
                 .rope_base = rope_base_of(pass.attributes),
                 .d_y = d_y,
                 .d_q = find_tensor(gradients, "q"),
                 .d_k = find_tensor(gradients, "k"),
                 .d_v = find_tensor(gradients, "v")},
                saved);
}

void check(const CaseFile& file) {
  const double base = rope_base_of(file.attributes());
  require(base >= 0, "{}: attribute rope_base is {}, expected 0 (no RoPE) or more", file.path(), base);
  const OpInput& q = file.present().front();
  const Shape shape = file.shape_of(q);
  require(base == 0 || shape[2] % 2 == 0, "{}:/q has shape {}, expected an even last axis for rope_base {}",
          file.path(), shape.to_string(), base);
}

}  // namespace

OpRow attention_row() {
  return {
      .name = "attention",
      .inputs = {{.name = "q", .shape = "THE"}, {.name = "k", .shape = "THE"}, {.name = "v", .shape = "THE"}},
      .attributes = {{.name = "rope_base", .choices = {}}},
      .divides = {},
      .check = check,
      .strategies = op_strategies(attention_strategies(), attention_forward, attention_delta, attention_backward, rope),
      .arguments = arguments,
      .backward = backward};
}

}  // namespace causeway
