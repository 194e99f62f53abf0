#include "src/model/model_update.hpp"

#include "kernels/core/event.hpp"

namespace causeway {

void ModelUpdate::begin() {
  if (beside_passes_)
    model_.parameters().zero_gradients_later();
  else if (!gradients_are_zero_)
    model_.parameters().zero_gradients(runtime_.stream);
  results_ = Tensor::zeros(runtime_.stream, DType::f64, {3});
  label_weight_ = 0;
  tokens_ = 0;
}

void ModelUpdate::add(const Sharding& sharding, const Batch& batch, double label_weight) {
  gradients_are_zero_ = false;
  model_.train({runtime_, sharding}, batch, results_.view().slice_rows(0, 1));
  label_weight_ += label_weight;
  tokens_ += sharding.local_tokens();
}

ModelUpdate::Result ModelUpdate::finish(std::int64_t number, double learning_rate, double label_weight) {
  const Stream& stream = runtime_.stream;
  const auto result = [&](std::int64_t row) { return results_.view().slice_rows(row, 1); };
  runtime_.mesh.world.all_reduce(result(0), Reduction::sum, stream);
  optimizer_.step(number, learning_rate, 1 / label_weight, result(0), result(1), result(2), beside_passes_);
  const Tensor on_host(stream.host(), DType::f64, {3});
  stream.copy(on_host.view().data, results_.view().data, results_.view().bytes());
  const Event copied(stream);
  if (!beside_passes_) {
    model_.parameters().zero_gradients(stream);  // after the copy, for which the host waits
    gradients_are_zero_ = true;
  }
  copied.wait();
  const auto values = on_host.view().as<double>();
  return {.loss = values[0], .gradient_norm = values[1], .clip_factor = values[2]};
}

}  // namespace causeway
