#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "kernels/core/error.hpp"
#include "src/convert/parameter_source.hpp"
#include "src/model/model.hpp"

namespace causeway {
namespace {

/// The first of the names, and how many more there are.
std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t most = 6;
  std::string text = fmt::format("{}", fmt::join(std::span(names).first(std::min(most, names.size())), ", "));
  return names.size() > most ? fmt::format("{} and {} more", text, names.size() - most) : text;
}

Elements values_of(const TensorFiles& files, const FileTensor& tensor) {
  Elements elements = zeros(tensor.elements(), tensor.type);
  files.read(tensor, elements.bytes);
  return elements;
}

void check_form(const TensorFiles& files, const FileTensor& found, const NamedShape& wanted) {
  require(found.shape == wanted.shape,
          "{} has shape [{}], expected [{}] for the model that its configuration describes", files.where(found),
          fmt::join(found.shape, ", "), fmt::join(wanted.shape, ", "));
  require(is_floating(found.type), "{} holds {}, expected f64, f32, f16 or bf16", files.where(found),
          name_of(found.type));
}

/// Whether two tensors of the same shape have the same values. Most are compared piece by piece.
bool have_same_values(const TensorFiles& files, const FileTensor& a, const FileTensor& b) {
  if (!a.is_row_major() || !b.is_row_major())
    return converted(values_of(files, a), TensorType::f64).bytes ==
           converted(values_of(files, b), TensorType::f64).bytes;
  constexpr std::int64_t piece = std::int64_t{1} << 20;
  for (std::int64_t first = 0; first < a.elements(); first += piece) {
    const auto part_of = [&](const FileTensor& tensor) {
      Elements part = zeros(std::min(piece, a.elements() - first), tensor.type);
      files.read_part(tensor, first, part.bytes);
      return converted(std::move(part), TensorType::f64);
    };
    if (part_of(a).bytes != part_of(b).bytes) return false;
  }
  return true;
}

/// Checks the values of a tensor without a parameter of its own.
void check_extra(const TensorFiles& files, const FileTensor& found, const ExtraTensor& extra) {
  if (extra.kind == ExtraTensor::Kind::unused) return;
  check_form(files, found, extra.tensor);
  if (extra.kind == ExtraTensor::Kind::zero) {
    const std::vector<double> values = doubles_of(values_of(files, found));
    for (std::size_t i = 0; i < values.size(); ++i)
      require(values[i] == 0, "{} has {} at element {}, expected zeros: the model has no place for this bias",
              files.where(found), values[i], i);
    return;
  }
  const FileTensor* const original = files.find(extra.copy_of);
  require(original != nullptr, "{}: its original '{}' is missing", files.where(found), extra.copy_of);
  require(original->shape == found.shape && have_same_values(files, found, *original),
          "{} differs from '{}', expected the same values: the configuration ties them", files.where(found),
          extra.copy_of);
}

/// Every tensor of the files is in a row, or is an extra with the values that it must have; every tensor of a row is
/// there. Returns the extras that are there.
std::map<std::string, TensorType> check_tensors(const ForeignModel& model, const std::string& path) {
  std::map<std::string, const ExtraTensor*> extras;
  for (const ExtraTensor& extra : model.mapping.extras) extras[extra.tensor.name] = &extra;
  std::set<std::string> used;
  std::vector<std::string> missing, left_over;
  for (const MappingRow& row : model.mapping.rows)
    for (const NamedShape& tensor : row.tensors) {
      used.insert(tensor.name);
      if (const FileTensor* found = model.files.find(tensor.name))
        check_form(model.files, *found, tensor);
      else
        missing.push_back(tensor.name);
    }
  std::map<std::string, TensorType> found_extras;
  for (const FileTensor& tensor : model.files.tensors()) {
    if (used.contains(tensor.name)) continue;
    if (extras.contains(tensor.name))
      found_extras[tensor.name] = tensor.type;
    else
      left_over.push_back(tensor.name);
  }
  require(left_over.empty(), "{}: has {}, for which the model that its configuration describes has no use{}{}", path,
          listed(left_over), missing.empty() ? "" : "; it has no ", listed(missing));
  require(missing.empty(), "{}: has no {}, expected all tensors of the model that its configuration describes", path,
          listed(missing));
  for (const auto& [name, type] : found_extras) check_extra(model.files, *model.files.find(name), *extras[name]);
  return found_extras;
}

/// The row's parameter. Errors of its transform get the name of its first tensor.
Elements parameter_of(const ForeignModel& model, const MappingRow& row, std::vector<Elements> tensors) {
  try {
    return row.transform.to_parameter(std::move(tensors));
  } catch (const Error& error) {
    if (error.code() != ExitCode::usage || row.tensors.empty()) throw;
    fail(ExitCode::usage, "{} {}", model.files.where(*model.files.find(row.tensors.front().name)), error.what());
  }
}

}  // namespace

ParameterSource foreign_parameters(std::shared_ptr<const ForeignModel> model, const ConvertSource& source,
                                   std::string_view format) {
  ParameterSource parameters{.path = source.path,
                             .format = format,
                             .options = model->options,
                             .remembered = {.format = std::string(format),
                                            .config = model->config,
                                            .extras = check_tensors(*model, source.path),
                                            .fp8 = model->fp8},
                             .warnings = model->warnings};
  std::map<std::string, const MappingRow*> rows;
  for (const MappingRow& row : model->mapping.rows) rows[row.parameter] = &row;
  const Model shapes({.shape = model->options});
  for (const Parameter& parameter : shapes.parameters().parameters()) {
    ensure(rows.contains(parameter.spec.name), "format {} has no row for {}", format, parameter.spec.name);
    ConvertedParameter converted{.name = parameter.spec.name, .shape = parameter.spec.shape};
    const MappingRow& row = *rows[parameter.spec.name];
    for (const NamedShape& tensor : row.tensors) converted.source_types.push_back(model->files.find(tensor.name)->type);
    converted.type = row.transform.result_type ? *row.transform.result_type : common_type(converted.source_types);
    parameters.parameters.push_back(std::move(converted));
  }
  ensure(rows.size() == parameters.parameters.size(), "format {} has rows for other parameters", format);
  parameters.read = [model, rows](const ConvertedParameter& parameter) {
    const MappingRow& row = *rows.at(parameter.name);
    std::vector<Elements> tensors;
    for (const NamedShape& tensor : row.tensors)
      tensors.push_back(values_of(model->files, *model->files.find(tensor.name)));
    Elements elements = parameter_of(*model, row, std::move(tensors));
    ensure(elements.type == parameter.type && elements.count() == parameter.elements(),
           "{}: its transform gives {} elements of {}, not {} of {}", parameter.name, elements.count(),
           name_of(elements.type), parameter.elements(), name_of(parameter.type));
    return elements;
  };
  return parameters;
}

}  // namespace causeway
