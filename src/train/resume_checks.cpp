#include "src/train/resume_checks.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "io/data/identity.hpp"
#include "src/cli/progress.hpp"
#include "src/run/json_fields.hpp"

namespace causeway {
namespace {

/// The attributes of /state that hold options, and the options.
struct RecordedOption {
  const char* attribute;
  const char* option;
};
constexpr RecordedOption recorded_options[] = {{"steps", "--steps"},
                                               {"learning_rate", "--learning-rate"},
                                               {"warmup_steps", "--warmup-steps"},
                                               {"learning_rate_floor", "--learning-rate-floor"},
                                               {"beta1", "--beta1"},
                                               {"beta2", "--beta2"},
                                               {"weight_decay", "--weight-decay"},
                                               {"clip", "--clip"},
                                               {"accumulate", "--accumulate"},
                                               {"data_groups", "data-parallel groups"},
                                               {"long_documents", "--long-documents"},
                                               {"deal", "--deal"},
                                               {"loss_normalisation", "--loss-normalisation"},
                                               {"gradient_dtype", "--gradient-dtype"}};
constexpr const char *data_attribute = "data", *valid_attribute = "valid_data";

std::string text_of(const hdf5::Value& any) {
  return std::visit([](const auto& held) { return fmt::format("{}", held); }, any);
}

std::vector<DataIdentity> parse(const std::string& text) {
  std::vector<DataIdentity> data;
  const nlohmann::json list = nlohmann::json::parse(text, nullptr, false);
  if (!list.is_array()) fail(ExitCode::corrupt, "the checkpoint's list of data is '{}', expected a JSON list", text);
  for (const nlohmann::json& item : list)
    data.push_back({.path = text_field(item, "path"),
                    .weight = number_field(item, "weight").value_or(1),
                    .identity = text_field(item, "identity")});
  return data;
}

bool same_content(const std::vector<DataIdentity>& a, const std::vector<DataIdentity>& b) {
  return std::ranges::equal(a, b, {}, &DataIdentity::identity, &DataIdentity::identity);
}

/// Whether documents are drawn in the same proportions.
bool same_weights(const std::vector<DataIdentity>& a, const std::vector<DataIdentity>& b) {
  const auto share = [](const std::vector<DataIdentity>& data, std::size_t i) {
    double sum = 0;
    for (const DataIdentity& item : data) sum += item.weight;
    return data[i].weight / sum;
  };
  constexpr double rounding = 1e-12;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::abs(share(a, i) - share(b, i)) > rounding) return false;
  return true;
}

/// "a.h5 (identity 0123456789abcdef), b.h5 (…)"
std::string listed(const std::vector<DataIdentity>& data) {
  std::vector<std::string> items;
  for (const DataIdentity& item : data)
    items.push_back(fmt::format("{} (identity {})", item.path, short_identity(item.identity)));
  return items.empty() ? "none" : fmt::format("{}", fmt::join(items, ", "));
}

std::string weights_of(const std::vector<DataIdentity>& data) {
  std::vector<std::string> items;
  for (const DataIdentity& item : data) items.push_back(fmt::format("{}:{}", item.path, item.weight));
  return fmt::format("{}", fmt::join(items, " "));
}

}  // namespace

std::vector<DataIdentity> identities_of(const DataMixture& data, Communicator& world, const Log& log,
                                        const std::function<void()>& between) {
  std::string found;
  collectively(world, [&] {
    if (world.rank() != 0) return;
    for (const Dataset& dataset : data.datasets) {
      Progress progress("identity of " + dataset.path(), dataset.tokens(), "tokens", log.prints());
      found += identity_of(dataset, [&](std::int64_t done) {
        if (between) between();
        progress.update(done);
      });
      found += '\n';
    }
  });
  std::istringstream lines(world.broadcast(found, 0));
  std::vector<DataIdentity> identities;
  for (std::size_t d = 0; d < data.datasets.size(); ++d) {
    DataIdentity& item = identities.emplace_back(
        DataIdentity{.path = data.datasets[d].path(), .weight = data.weights[d], .identity = {}});
    std::getline(lines, item.identity);
  }
  return identities;
}

nlohmann::ordered_json to_json(const std::vector<DataIdentity>& data) {
  auto list = nlohmann::ordered_json::array();
  for (const DataIdentity& item : data)
    list.push_back({{"path", item.path}, {"weight", item.weight}, {"identity", item.identity}});
  return list;
}

std::map<std::string, hdf5::Value> resume_record(const TrainSettings& settings, std::int64_t data_groups,
                                                 const std::vector<DataIdentity>& data,
                                                 const std::vector<DataIdentity>& valid) {
  // Without folders: the bytes of a checkpoint do not depend on where its data are.
  const auto text = [](std::vector<DataIdentity> list) {
    for (DataIdentity& item : list) item.path = std::filesystem::path(item.path).filename().string();
    return to_json(list).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  return {{"steps", settings.steps},
          {"learning_rate", settings.learning_rate},
          {"warmup_steps", settings.warmup_steps},
          {"learning_rate_floor", settings.learning_rate_floor},
          {"beta1", settings.beta1},
          {"beta2", settings.beta2},
          {"weight_decay", settings.weight_decay},
          {"clip", settings.clip},
          {"accumulate", settings.accumulate},
          {"data_groups", data_groups},
          {"long_documents", settings.long_documents},
          {"deal", settings.deal},
          {"loss_normalisation", settings.loss_normalisation},
          {"gradient_dtype", settings.memory.gradient_dtype},
          {data_attribute, text(data)},
          {valid_attribute, text(valid)}};
}

std::vector<std::string> compare_with_record(const hdf5::Object& state, const std::string& checkpoint,
                                             const std::map<std::string, hdf5::Value>& now, bool allow_changed_data) {
  std::vector<std::string> lines, changed;
  for (const auto& [attribute, option] : recorded_options) {
    const bool recorded = state.has_attribute(attribute);
    // Before the option packs were dealt in order.
    if (!recorded && attribute != std::string_view("deal")) continue;
    const hdf5::Value before = recorded ? state.attribute(attribute) : hdf5::Value(std::string("in_order"));
    const hdf5::Value after = now.at(attribute);
    if (before != after) changed.push_back(fmt::format("{} {}, before {}", option, text_of(after), text_of(before)));
  }
  const auto stored = [&](const char* attribute) { return parse(state.string_attribute(attribute)); };
  const auto current = [&](const char* attribute) { return parse(std::get<std::string>(now.at(attribute))); };
  if (!state.has_attribute(data_attribute)) {
    lines.push_back(fmt::format("{} does not say which data it was trained on: not compared with --data", checkpoint));
  } else {
    const std::vector<DataIdentity> before = stored(data_attribute), after = current(data_attribute);
    const bool same = same_content(before, after);
    const std::string what =
        fmt::format("--data is {}, but {} was trained on {}", listed(after), checkpoint, listed(before));
    require(same || allow_changed_data, "{}; to continue on other data, add --allow-changed-data", what);
    if (!same)
      lines.push_back(what + "; continued because of --allow-changed-data");
    else if (!same_weights(before, after))
      changed.push_back(fmt::format("--data {}, before {}", weights_of(after), weights_of(before)));
  }
  if (!changed.empty()) lines.push_back(fmt::format("changed for the steps to come: {}", fmt::join(changed, "; ")));
  if (state.has_attribute(valid_attribute)) {
    const std::vector<DataIdentity> before = stored(valid_attribute), after = current(valid_attribute);
    if (!same_content(before, after))
      lines.push_back(
          fmt::format("--valid-data is {}, before {}{}", listed(after), listed(before),
                      before.empty() || after.empty() ? "" : ": held-out losses cannot be compared with earlier ones"));
  }
  return lines;
}

}  // namespace causeway
