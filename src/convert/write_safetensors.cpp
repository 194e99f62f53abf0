#include <algorithm>
#include <map>

#include "io/file/atomic_file.hpp"
#include "io/tensors/safetensors_writer.hpp"
#include "kernels/core/error.hpp"
#include "src/convert/model_writer.hpp"

namespace causeway {
namespace {

/// Where a tensor of the result comes from.
struct Origin {
  const MappingRow* row = nullptr;
  const ConvertedParameter* parameter = nullptr;
  std::size_t part = 0;                ///< which of the row's tensors
  const ExtraTensor* extra = nullptr;  ///< instead of a row
};

struct Plan {
  std::vector<TensorPlan> tensors;
  std::map<std::string, Origin> origins;
  std::vector<std::pair<const MappingRow*, const ConvertedParameter*>> constants;  ///< rows without tensors
};

void add_rows(Plan& plan, const ParameterSource& source, const Mapping& mapping, const ModelTarget& target) {
  std::map<std::string, const ConvertedParameter*> parameters;
  for (const ConvertedParameter& parameter : source.parameters) parameters[parameter.name] = &parameter;
  for (const MappingRow& row : mapping.rows) {
    ensure(parameters.contains(row.parameter), "the mapping has a row for {}, which is no parameter of the model",
           row.parameter);
    const ConvertedParameter& parameter = *parameters[row.parameter];
    if (row.tensors.empty()) plan.constants.emplace_back(&row, &parameter);
    const auto& types = parameter.source_types;
    for (std::size_t part = 0; part < row.tensors.size(); ++part) {
      const NamedShape& tensor = row.tensors[part];
      TensorType type = parameter.type;
      if (types.size() == row.tensors.size())
        type = types[part];
      else if (!types.empty())  // another format makes the parameter of another number of tensors
        type = common_type(types);
      plan.tensors.push_back({tensor.name, target.type.value_or(type), tensor.shape});
      plan.origins[tensor.name] = {&row, &parameter, part};
    }
    parameters.erase(row.parameter);
  }
  ensure(parameters.empty(), "the mapping has no row for {}", parameters.empty() ? "" : parameters.begin()->first);
}

void add_extras(Plan& plan, const ParameterSource& source, const Mapping& mapping, const ModelTarget& target) {
  for (const ExtraTensor& extra : mapping.extras) {
    const auto had = source.remembered.extras.find(extra.tensor.name);
    const bool made = extra.kind == ExtraTensor::Kind::made;
    if (extra.kind == ExtraTensor::Kind::unused) continue;
    if (had == source.remembered.extras.end() && !extra.always_written && !made) continue;
    const bool copy = extra.kind == ExtraTensor::Kind::copy;
    TensorType type = TensorType::f32;
    if (had != source.remembered.extras.end())
      type = had->second;
    else if (copy)
      type = std::ranges::find(plan.tensors, extra.copy_of, &TensorPlan::name)->type;
    plan.tensors.push_back({extra.tensor.name, target.type.value_or(type), extra.tensor.shape});
    plan.origins[extra.tensor.name] = copy ? plan.origins.at(extra.copy_of) : Origin{.extra = &extra};
  }
}

/// The row's tensors of a parameter. Errors of its transform get the parameter's name.
std::vector<Elements> tensors_of(const ParameterSource& source, const MappingRow& row,
                                 const ConvertedParameter& parameter) {
  require(row.transform.to_tensors != nullptr, "{} cannot be written in this format", parameter.name);
  std::vector<std::int64_t> counts;
  for (const NamedShape& tensor : row.tensors) counts.push_back(tensor.elements());
  Elements values = source.read(parameter);
  if (row.combine) {
    const auto other = std::ranges::find(source.parameters, row.other, &ConvertedParameter::name);
    ensure(other != source.parameters.end(), "the mapping combines {} with {}, which is no parameter of the model",
           row.parameter, row.other);
    values = row.combine(std::move(values), source.read(*other));
  }
  try {
    return row.transform.to_tensors(std::move(values), counts);
  } catch (const Error& error) {
    if (error.code() != ExitCode::usage) throw;
    fail(ExitCode::usage, "{}: {} {}", source.path, parameter.name, error.what());
  }
}

Elements values_of(const ExtraTensor& extra, TensorType type) {
  if (extra.kind == ExtraTensor::Kind::made) return converted(extra.make(), type);
  return zeros(extra.tensor.elements(), type);
}

}  // namespace

Elements converted_for(const std::string& name, Elements elements, TensorType type) {
  Elements out = converted(std::move(elements), type);
  const std::int64_t bad = first_non_finite(out.type, out.bytes);
  if (bad < out.count())
    fail(ExitCode::non_finite, "{}: value {} of {} is not finite in {}", name, bad, out.count(), name_of(out.type));
  return out;
}

std::int64_t write_model_as_safetensors(const ParameterSource& source, const ForeignLayout& layout,
                                        const ModelTarget& target) {
  Plan plan;
  add_rows(plan, source, layout.mapping, target);
  add_extras(plan, source, layout.mapping, target);
  for (const auto& [row, parameter] : plan.constants) tensors_of(source, *row, *parameter);  // checks their values
  SafetensorsWriter writer(target.path_of, std::move(plan.tensors), target.most_shard_bytes);
  const MappingRow* current = nullptr;  // whose tensors are in memory
  std::vector<Elements> parts;
  for (const TensorPlan& tensor : writer.order()) {
    const Origin& origin = plan.origins.at(tensor.name);
    if (origin.extra != nullptr) {
      writer.write(values_of(*origin.extra, tensor.type).bytes);
      continue;
    }
    if (current != origin.row) {
      parts.clear();
      parts = tensors_of(source, *origin.row, *origin.parameter);
      current = origin.row;
    }
    writer.write(converted_for(tensor.name, parts[origin.part], tensor.type).bytes);
  }
  writer.finish();
  for (const auto& [name, text] : layout.texts) write_text(target.path_of(name), text);
  return std::ssize(writer.order());
}

}  // namespace causeway
