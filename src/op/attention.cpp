#include "kernels/attention.hpp"

#include "src/op/case_file.hpp"
#include "src/op/table.hpp"

namespace causeway {
namespace {

void map_arguments(const OpTensors& tensors, RotaryAttentionForward& forward, RotaryAttentionBackward& backward) {
  tensors.map("q", forward.q, backward.q, backward.d_q);
  tensors.map("k", forward.k, backward.k, backward.d_k);
  tensors.map("v", forward.v, backward.v, backward.d_v);
  forward.rope = backward.rope = {.base = number_attribute(tensors.attributes, "rope_base"),
                                  .scaling = number_attribute(tensors.attributes, "rope_scaling"),
                                  .inv_freq = {}};
  forward.y = backward.y = tensors.y;
  backward.d_y = tensors.d_y;
}

void check(const CaseFile& file) {
  const double base = number_attribute(file.attributes(), "rope_base");
  require(base >= 0, "{}: attribute rope_base is {}, expected 0 (no RoPE) or more", file.path(), base);
  const double scaling = number_attribute(file.attributes(), "rope_scaling");
  require(scaling > 0, "{}: attribute rope_scaling is {}, expected a number above 0", file.path(), scaling);
  const OpInput& q = file.present().front();
  const Shape shape = file.shape_of(q);
  require(base == 0 || shape[2] % 2 == 0, "{}:/q has shape {}, expected an even last axis for rope_base {}",
          file.path(), shape.to_string(), base);
}

}  // namespace

OpRow attention_row() {
  return make_op_row(
      {.name = "attention",
       .inputs = {{.name = "q", .shape = "THE"}, {.name = "k", .shape = "THE"}, {.name = "v", .shape = "THE"}},
       .attributes = {{.name = "rope_base", .choices = {}}, {.name = "rope_scaling", .choices = {}, .otherwise = "1"}},
       .check = check},
      map_arguments, attention_forward, attention_delta, attention_backward, rope);
}

}  // namespace causeway
