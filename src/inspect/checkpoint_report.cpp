#include "src/inspect/checkpoint_report.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <vector>

#include "io/checkpoint/checkpoint.hpp"
#include "io/checkpoint/checkpoint_folders.hpp"
#include "src/cli/log.hpp"
#include "src/cli/number_format.hpp"
#include "src/model/model_checkpoint.hpp"
#include "src/output/safe_text.hpp"
#include "src/run/natural_order.hpp"
#include "src/train/checkpointing.hpp"

namespace causeway {
namespace {

/// Reads a tensor. Throws Error(corrupt) unless all its values are finite.
void verify_tensor(const Checkpoint& checkpoint, const Checkpoint::TensorInfo& tensor) {
  constexpr std::int64_t piece = std::int64_t{1} << 20;
  std::int64_t non_finite = 0;
  std::vector<double> values;
  for (std::int64_t begin = 0; begin < tensor.size(); begin += piece) {
    values.resize(static_cast<std::size_t>(std::min(piece, tensor.size() - begin)));
    checkpoint.read(tensor.name, begin, values);
    non_finite += std::ranges::count_if(values, [](double value) { return !std::isfinite(value); });
  }
  if (non_finite > 0)
    fail(ExitCode::corrupt, "{}:/{}: {} of {} values are not finite", checkpoint.path(), tensor.name, non_finite,
         tensor.size());
}

/// The longest name or text of a file that is shown whole.
constexpr std::size_t longest_text = 200;

/// "optimizer/master/x" → "optimizer/master"
std::string group_of(const std::string& name) { return name.substr(0, name.rfind('/')); }

}  // namespace

std::string shown(const hdf5::Value& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return std::to_string(*integer);
  if (const auto* number = std::get_if<double>(&value))
    return std::isnan(*number) ? "–" : fmt::format("{:.6g}", *number);  // NaN: of a step without a label
  return one_line(std::get<std::string>(value), longest_text);
}

CheckpointDescription describe_checkpoint(const std::string& path, bool verify) {
  const Checkpoint checkpoint(path);
  if (verify) training_state_of(checkpoint);
  std::string text = fmt::format("{}: checkpoint\n", one_line(checkpoint.path()));
  if (const auto& manifest = checkpoint.manifest())
    text += fmt::format("  files         {} bytes in {}, written by {} ranks; sizes and SHA-256 match {}\n",
                        grouped(manifest->bytes()), manifest->files.size(), manifest->ranks(), manifest_name);
  const auto list_attributes = [&text](const hdf5::Object& object) {
    for (const std::string& name : object.attribute_names())
      text += fmt::format("  {:<13} {}\n", one_line(name, longest_text), shown(object.attribute(name)));
  };
  list_attributes(checkpoint.state());
  text += "  model\n";
  list_attributes(checkpoint.attributes());
  std::vector<Checkpoint::TensorInfo> tensors = checkpoint.tensors();
  std::ranges::sort(tensors, NaturalLess(), &Checkpoint::TensorInfo::name);  // layer 2 before layer 10
  for (auto begin = tensors.begin(); begin != tensors.end();) {
    const std::string group = group_of(begin->name);
    const auto end =
        std::find_if(begin, tensors.end(), [&](const auto& tensor) { return group_of(tensor.name) != group; });
    std::int64_t values = 0;
    std::string table;
    for (auto tensor = begin; tensor != end; ++tensor) {
      values += tensor->size();
      if (verify) verify_tensor(checkpoint, *tensor);
      table += fmt::format("    {:<56} {:>4} {:>18} {:>14}\n",
                           one_line(tensor->name.substr(group.size() + 1), longest_text), tensor->type.to_string(),
                           fmt::format("[{}]", fmt::join(tensor->shape, ", ")), grouped(tensor->size()));
    }
    text += fmt::format("  {:<13} {} values in {} tensors\n{}", one_line(group, longest_text), grouped(values),
                        end - begin, group == "parameters" ? table : "");
    begin = end;
  }
  if (verify) text += "  verified      every value read, all finite\n";
  try {
    require_tensors_of_its_model(checkpoint, false);
  } catch (const Error& error) {
    return {text, error};
  }
  return {text, std::nullopt};
}

RunVerification verify_run(const std::string& run) {
  RunVerification report;
  const auto add_failure = [&](const std::string& name, const Error& error) {
    const bool damaged = error.code() == ExitCode::corrupt;
    if (damaged)
      ++report.damaged;
    else if (!report.not_read)
      report.not_read = error;
    const char* const word = damaged ? "DAMAGED" : error.code() == ExitCode::io ? "NOT READ" : "REFUSED";
    report.text += fmt::format("  {:<13} {}: {}\n", name, word, one_line(error.what()));
  };
  std::vector<std::int64_t> steps = published_steps(run);
  std::ranges::reverse(steps);
  for (const std::int64_t step : steps) {
    ++report.checkpoints;
    const std::string name = step_folder(step);
    try {
      const Checkpoint checkpoint((std::filesystem::path(run) / name).string());
      training_state_of(checkpoint);
      require_tensors_of_its_model(checkpoint, false);
      std::int64_t values = 0;
      for (const Checkpoint::TensorInfo& tensor : checkpoint.tensors()) {
        verify_tensor(checkpoint, tensor);
        values += tensor.size();
      }
      report.text += fmt::format("  {:<13} undamaged: {} values, all finite{}\n", name, grouped(values),
                                 checkpoint.manifest()
                                     ? fmt::format("; {} bytes in {} files", grouped(checkpoint.manifest()->bytes()),
                                                   checkpoint.manifest()->files.size())
                                     : "; version 1, without manifest");
    } catch (const Error& error) {
      add_failure(name, error);
    }
  }
  try {
    if (const auto latest = latest_checkpoint(run))
      report.text +=
          fmt::format("  {:<13} {}\n", "latest", one_line(std::filesystem::path(*latest).filename().string()));
  } catch (const Error& error) {
    add_failure("latest", error);
  }
  return report;
}

}  // namespace causeway
