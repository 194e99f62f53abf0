#pragma once

#include <map>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint.hpp"
#include "io/checkpoint/checkpoint_content.hpp"
#include "src/model/model.hpp"
#include "src/model/optimizer.hpp"

namespace causeway {

/// What a checkpoint's root says about the model, and back. `dtype` is that of the computation.
std::map<std::string, hdf5::Value> attributes_of(const ModelOptions& options, DType dtype);
ModelOptions model_options_of(const Checkpoint& checkpoint);
/// Throws Error(usage) naming the first option that the checkpoint's model has otherwise than `wanted`.
void require_same_model(const Checkpoint& checkpoint, const ModelOptions& wanted);

/// This rank's part of weights and optimizer state; views, valid until the next step.
std::vector<CheckpointTensor> checkpoint_tensors(const ParameterSet& parameters, const Optimizer& optimizer, int rank);

/// Whole weights, on every rank, where `stream` computes.
void load_parameters(const Checkpoint& checkpoint, const ParameterSet& parameters, const Stream& stream);
/// This rank's masters and moments, however many ranks wrote them.
void load_optimizer(const Checkpoint& checkpoint, const ParameterSet& parameters, const Optimizer& optimizer, int rank,
                    const Stream& stream);

}  // namespace causeway
