#include "src/model/model_update.hpp"

namespace causeway {

void ModelUpdate::begin() {
  model_.parameters().zero_gradients_later();
  results_ = Tensor::zeros(runtime_.stream, DType::f64, {3});
  label_weight_ = 0;
  tokens_ = 0;
}

void ModelUpdate::add(const Sharding& sharding, const Batch& batch, double label_weight) {
  model_.train({runtime_, sharding}, batch, results_.view().slice_rows(0, 1));
  label_weight_ += label_weight;
  tokens_ += sharding.local_tokens();
}

void ModelUpdate::update(std::int64_t number, double learning_rate, double label_weight) {
  const Stream& stream = runtime_.stream;
  const auto result = [&](std::int64_t row) { return results_.view().slice_rows(row, 1); };
  runtime_.mesh.world.all_reduce(result(0), Reduction::sum, stream);
  optimizer_.step(number, learning_rate, 1 / label_weight, result(0), result(1), result(2), beside_passes_);
  results_on_host_ = Tensor(stream.host(), DType::f64, {3});
  stream.copy(results_on_host_.view().data, results_.view().data, results_.view().bytes());
  copied_.emplace(stream);
}

ModelUpdate::Result ModelUpdate::wait_for_result() {
  ensure(copied_.has_value(), "the result of a step without an update");
  copied_->wait();
  copied_.reset();
  const auto values = results_on_host_.view().as<double>();
  return {.loss = values[0], .gradient_norm = values[1], .clip_factor = values[2]};
}

}  // namespace causeway
