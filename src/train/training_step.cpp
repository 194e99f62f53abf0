#include "src/train/training_step.hpp"

#include "src/run/json_fields.hpp"

namespace causeway {

double TrainingStep::tokens_per_s() const {
  return measured.step_s > 0 ? static_cast<double>(tokens) / measured.step_s : 0;
}

nlohmann::ordered_json TrainingStep::metrics_line() const {
  nlohmann::ordered_json line{{"step", number},
                              {"loss", number_or_null(loss)},
                              {"learning_rate", learning_rate},
                              {"grad_norm", number_or_null(gradient_norm)},
                              {"tokens", tokens},
                              {"tokens_per_s", tokens_per_s()},
                              {"step_s", measured.step_s},
                              {"compute_s", measured.compute_s},
                              {"comm_exposed_s", measured.exposed_s},
                              {"comm_hidden_s", measured.hidden_s},
                              {"bytes_sent", measured.bytes_sent},
                              {"memory_bytes", measured.memory_bytes},
                              {"balance", measured.balance},
                              {"slowest_rank", measured.slowest_rank}};
  if (mfu) line["mfu"] = *mfu;
  if (eval_s) {
    line["eval_loss"] = number_or_null(eval_loss);
    line["eval_s"] = *eval_s;
  }
  if (checkpoint_s) line["checkpoint_s"] = *checkpoint_s;
  if (published) {
    line["checkpoint_step"] = published->step;
    line["checkpoint_write_s"] = published->seconds;
    line["checkpoint_bytes"] = published->bytes;
  }
  return line;
}

}  // namespace causeway
