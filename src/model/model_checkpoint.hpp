#pragma once

#include <map>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint.hpp"
#include "io/checkpoint/checkpoint_content.hpp"
#include "src/model/model.hpp"
#include "src/model/optimizer.hpp"

namespace causeway {

/// The attributes of a checkpoint's root that describe the model, and the inverse. `dtype` is the compute type, `fp8`
/// the level of --fp8 that it was trained with, an attribute only if it is not off.
std::map<std::string, hdf5::Value> attributes_of(const ModelOptions& options, DType dtype,
                                                 Fp8Level fp8 = Fp8Level::off);
ModelOptions model_options_of(const Checkpoint& checkpoint);
Fp8Level fp8_level_of(const Checkpoint& checkpoint);
/// What to warn of where a model runs at a lower level of --fp8 than it was trained with; "" otherwise.
std::string fp8_warning(const Checkpoint& checkpoint, Fp8Level chosen);
/// Throws Error(usage) with the first option whose value in the checkpoint differs from `wanted`.
void require_same_model(const Checkpoint& checkpoint, const ModelOptions& wanted);

/// Throws unless the checkpoint has exactly the tensors of the model that its attributes describe, each with its shape
/// and type: Error(usage) for tensors that the model has no use for (it is another model's checkpoint), Error(corrupt)
/// for missing ones and wrong shapes (it does not fit itself). All are named. Without `whole`, as for a checkpoint of
/// which only the weights are used, the optimizer's tensors may be missing all together. Each of `ranks` ranks, which
/// call this at the same time, checks the shapes of some of them.
void require_tensors_of_its_model(const Checkpoint& checkpoint, bool whole, int rank = 0, int ranks = 1);

/// This rank's part of the weights and the optimizer state; views, valid until the next step.
std::vector<CheckpointTensor> checkpoint_tensors(const ParameterSet& parameters, const Optimizer& optimizer);

/// Reads the weights that this rank holds into the stream's device: all, or its shards.
void load_parameters(const Checkpoint& checkpoint, const ParameterSet& parameters, const Stream& stream);
/// Reads this rank's part of the master weights and moments; the checkpoint can be of any number of ranks.
void load_optimizer(const Checkpoint& checkpoint, const ParameterSet& parameters, const Optimizer& optimizer,
                    const Stream& stream);

}  // namespace causeway
