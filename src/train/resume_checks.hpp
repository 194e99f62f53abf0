#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/hdf5/hdf5.hpp"
#include "src/cli/log.hpp"
#include "src/train/data/data_mixture.hpp"
#include "src/train/settings/train_settings.hpp"

namespace causeway {

/// A dataset of a run: its file, its weight, and the identity of its content (io/data/identity.hpp).
struct DataIdentity {
  std::string path;
  double weight = 1;
  std::string identity;
};

/// The identities of a mixture's datasets. The first rank reads datasets whose file states none; `between` is called
/// regularly meanwhile and may throw to stop. Collective.
std::vector<DataIdentity> identities_of(const DataMixture& data, Communicator& world, const Log& log,
                                        const std::function<void()>& between);

/// As a checkpoint and environment.json keep them: a JSON list of objects with path, weight and identity. A checkpoint
/// has only the names of the files.
nlohmann::ordered_json to_json(const std::vector<DataIdentity>& data);

/// What a checkpoint records so that a resumed run can compare: the identities of its data and of its held-out data,
/// and the options that change the course of the learning rate or what a step is.
std::map<std::string, hdf5::Value> resume_record(const TrainSettings& settings, std::int64_t data_groups,
                                                 const std::vector<DataIdentity>& data,
                                                 const std::vector<DataIdentity>& valid);

/// Compares the record of the checkpoint that a run resumes from with `now`. Other data are refused with Error(usage)
/// that names both, unless `allow_changed_data`. Returns the lines to log: options that changed, weights and held-out
/// data that changed, and that an older checkpoint does not say which data it was trained on.
std::vector<std::string> compare_with_record(const hdf5::Object& state, const std::string& checkpoint,
                                             const std::map<std::string, hdf5::Value>& now, bool allow_changed_data);

}  // namespace causeway
