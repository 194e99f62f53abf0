#include "src/op/table.hpp"

namespace causeway {
namespace {

void map_arguments(const OpTensors& tensors, HyenaBlockForward& forward, HyenaBlockBackward& backward) {
  tensors.map("q", forward.in.q, backward.in.q, backward.d_q);
  tensors.map("k", forward.in.k, backward.in.k, backward.d_k);
  tensors.map("v", forward.in.v, backward.in.v, backward.d_v);
  tensors.map("featurizer", forward.in.featurizer, backward.in.featurizer, backward.d_featurizer);
  tensors.map("taps", forward.in.taps, backward.in.taps, backward.d_taps);
  tensors.map("residues", forward.in.residues, backward.in.residues, backward.d_residues);
  tensors.map("log_rates", forward.in.log_rates, backward.in.log_rates, backward.d_log_rates);
  tensors.map("skip", forward.in.skip, backward.in.skip, backward.d_skip);
  forward.y = tensors.y;
  backward.d_y = tensors.d_y;
}

}  // namespace

OpRow hyena_block_row() {
  return make_op_row(
      {.name = "hyena_block",
       .inputs = {{.name = "q", .shape = "TD"},
                  {.name = "k", .shape = "TD"},
                  {.name = "v", .shape = "TD"},
                  {.name = "featurizer", .shape = "FW"},
                  {.name = "taps", .shape = "GL", .optional = true},
                  {.name = "residues", .shape = "DM", .optional = true, .accumulator = true, .instead_of = "taps"},
                  {.name = "log_rates", .shape = "DM", .optional = true, .accumulator = true, .instead_of = "taps"},
                  {.name = "skip", .shape = "D", .optional = true}},
       .divides = {{'G', 'D'}},
       .multiples = {{'F', 3, 'D'}}},
      map_arguments, hyena_block_forward, hyena_block_backward, hyena_block_summary, hyena_block_adjoint_summary,
      modal_conv_fold);
}

}  // namespace causeway
