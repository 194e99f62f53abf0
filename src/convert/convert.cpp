#include "src/convert/convert.hpp"

#include <filesystem>

#include "io/checkpoint/checkpoint_folders.hpp"
#include "io/checkpoint/manifest.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/look_up.hpp"
#include "io/file/temporary_file.hpp"
#include "io/tensors/safetensors.hpp"
#include "kernels/core/error.hpp"
#include "src/convert/model_writer.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

/// A folder that --force replaces must look like one that a conversion wrote: only files of such kinds.
void check_target_folder(const ConvertOptions& options) {
  const std::string& out = options.out;
  require(!out.empty(), "no output, expected --out with a name for the folder");
  const fs::path parent = fs::absolute(fs::path(out).lexically_normal() / "").parent_path().parent_path();
  require(kind_of(parent.string()) == fs::file_type::directory, "{}: its folder {} does not exist", out,
          parent.string());
  if (!is_there(out)) return;
  require(options.force, "{}: exists; --force replaces it", out);
  require(kind_of(out) == fs::file_type::directory && !fs::is_symlink(out), "{}: exists and is not a folder", out);
  require(!same_file(options.source, out), "{}: is input and output, expected another name for the result", out);
  for (const auto& entry : fs::directory_iterator(out)) {
    const std::string name = entry.path().filename().string(), ending = entry.path().extension().string();
    const bool json = name == "config.json" || name == manifest_name || name == safetensors_index_file;
    const bool known = json || ending == ".safetensors" || ending == ".h5" || ending == ".yml";
    require(known && entry.is_regular_file() && !entry.is_symlink(),
            "{}: has {}, which no conversion writes; it is not replaced", out, name);
  }
}

/// Counts what is read of the source.
void report_progress(ParameterSource& source, const ConvertOptions& options) {
  ConvertProgress progress;
  for (const ConvertedParameter& parameter : source.parameters)
    progress.total_bytes += parameter.elements() * size_of(parameter.type);
  source.read = [read = std::move(source.read), progress, &options](const ConvertedParameter& parameter) mutable {
    Elements elements = read(parameter);
    progress.bytes = std::min(progress.total_bytes, progress.bytes + std::ssize(elements.bytes));
    progress.parameter = parameter.name;
    if (options.progress) options.progress(progress);
    return elements;
  };
}

/// The type that the first tensor of the result gets where --dtype does not say it, as in write_safetensors.
TensorType own_type(const ConvertedParameter& first) {
  return first.source_types.empty() ? first.type : first.source_types.front();
}

/// How the source is written as `to`. Errors get the names of both.
ForeignLayout layout_of(const ParameterSource& source, const Format& to, TensorType type) {
  try {
    return to.layout(source.options, source.remembered, type);
  } catch (const Error& error) {
    if (error.code() != ExitCode::usage) throw;
    fail(ExitCode::usage, "{}: cannot be written as {}: {}", source.path, to.name, error.what());
  }
}

std::int64_t step_of(const ParameterSource& source, const std::string& out) {
  const auto found = source.state.find("step");
  const auto* const step = found == source.state.end() ? nullptr : std::get_if<std::int64_t>(&found->second);
  const std::int64_t own = step == nullptr ? 0 : *step;
  const auto named = step_of_folder(fs::path(out).filename().string());
  require(!named || *named == own, "--out is '{}', expected another name: the checkpoint has step {}", out, own);
  return own;
}

}  // namespace

ConvertReport convert(const ConvertOptions& options) {
  const Format& to = find_convert_format(options.to, "--to");
  const bool to_checkpoint = to.is_causeway();
  require(to.is_written(), "--to is '{}', which is only read", options.to);
  std::optional<TensorType> type;
  if (options.dtype != "source") type = parse_tensor_type(options.dtype, "--dtype");
  require(options.most_shard_bytes >= 1, "--max-shard-size is {}, expected 1 or more", options.most_shard_bytes);
  check_target_folder(options);

  ParameterSource source = open_parameter_source({options.source, options.model_config}, options.from);
  report_progress(source, options);
  ConvertReport report{.from = std::string(source.format), .warnings = source.warnings};
  for (const ConvertedParameter& parameter : source.parameters) report.values += parameter.elements();

  const std::string out = fs::path(options.out).lexically_normal().string();
  const std::string target = out.ends_with('/') ? out.substr(0, out.size() - 1) : out;
  ForeignLayout layout;
  const std::int64_t step = to_checkpoint ? step_of(source, target) : 0;
  if (!to_checkpoint) layout = layout_of(source, to, type.value_or(own_type(source.parameters.front())));
  AtomicFolder folder(target);
  const ModelTarget files{.path_of = [&](const std::string& name) { return folder.file(name); },
                          .type = type,
                          .most_shard_bytes = options.most_shard_bytes,
                          .step = step};
  report.tensors =
      to_checkpoint ? write_model_as_checkpoint(source, files) : write_model_as_safetensors(source, layout, files);
  sync_to_disk(folder.path());
  folder.rename_to(target, options.force);
  const fs::path parent = fs::path(target).parent_path();
  sync_to_disk(parent.empty() ? "." : parent.string());
  return report;
}

}  // namespace causeway
