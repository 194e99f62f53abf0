#include <fmt/ranges.h>
#include <hdf5.h>

#include <limits>

#include "io/hdf5/check.hpp"
#include "io/hdf5/hdf5.hpp"
#include "io/hdf5/types.hpp"

namespace causeway::hdf5 {
namespace {

constexpr ssize_t longest_name = 4096;

std::string text_of(ssize_t (*get)(hid_t, std::size_t, char*, std::size_t), hid_t creation, std::size_t part,
                    const std::string& where, ExitCode damaged) {
  const ssize_t length = check(get(creation, part, nullptr, 0), where, "read its mappings", damaged);
  require(length < longest_name, "{}: mapping {} has a name of {} bytes, expected less than {}", where, part, length,
          longest_name);
  std::string text(static_cast<std::size_t>(length) + 1, '\0');
  check(get(creation, part, text.data(), text.size()), where, "read its mappings", damaged);
  text.pop_back();
  return text;
}

std::vector<std::int64_t> extents_of(hid_t space, const std::string& where, ExitCode damaged) {
  const int rank = check(H5Sget_simple_extent_ndims(space), where, "read its shape", damaged);
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  check(H5Sget_simple_extent_dims(space, extents.data(), nullptr), where, "read its shape", damaged);
  std::vector<std::int64_t> shape(extents.begin(), extents.end());
  product(shape, where);
  return shape;
}

struct Selection {
  std::vector<std::int64_t> start, extent;
};

/// The selection of a dataspace, which must be one box.
Selection box_of(hid_t space, const std::string& where, ExitCode damaged) {
  const std::vector<std::int64_t> shape = extents_of(space, where, damaged);
  const hssize_t points = H5Sget_select_npoints(space);
  std::vector<hsize_t> first(shape.size()), last(shape.size());
  const bool bounded = points > 0 && !shape.empty() && H5Sget_select_bounds(space, first.data(), last.data()) >= 0;
  require(bounded, "{}: a mapping selects no box of elements", where);
  Selection box;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    require(first[axis] <= last[axis] && last[axis] < static_cast<hsize_t>(shape[axis]),
            "{}: a mapping selects elements outside [{}]", where, fmt::join(shape, ", "));
    box.start.push_back(static_cast<std::int64_t>(first[axis]));
    box.extent.push_back(static_cast<std::int64_t>(last[axis] - first[axis]) + 1);
  }
  require(product(box.extent, where) == points, "{}: a mapping selects {} elements that are not a box", where, points);
  return box;
}

Id space_of(std::span<const std::int64_t> shape, std::span<const std::int64_t> start,
            std::span<const std::int64_t> extent, const std::string& where) {
  const std::vector<hsize_t> all(shape.begin(), shape.end()), from(start.begin(), start.end()),
      count(extent.begin(), extent.end());
  Id space(
      check(H5Screate_simple(static_cast<int>(all.size()), all.data(), nullptr), where, "create", ExitCode::internal));
  check(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, from.data(), nullptr, count.data(), nullptr), where,
        "select elements", ExitCode::internal);
  return space;
}

}  // namespace

void File::create_virtual(std::string_view path, const VirtualDataset& dataset) {
  const SilencedErrors silenced;
  create_parents(path);
  const std::string where = where_of(path_, path), inside = where.substr(path_.size() + 1);
  // In the names of a mapping libHDF5 takes % for the start of a pattern. The path of the file itself may contain it.
  ensure(inside.find('%') == inside.npos, "{}: the name of a virtual dataset must not contain %", where);
  const Id creation(check(H5Pcreate(H5P_DATASET_CREATE), where, "create", ExitCode::internal));
  check(H5Pset_obj_track_times(creation.get(), false), where, "create", ExitCode::internal);
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  check(H5Pset_fill_value(creation.get(), H5T_NATIVE_DOUBLE, &nothing), where, "create", ExitCode::internal);
  for (const VirtualDataset::Part& part : dataset.parts) {
    ensure(part.file.find('%') == part.file.npos, "{}: the source file {} must not contain %", where, part.file);
    const std::int64_t count = product(part.extent, where), end = part.source_begin + count;
    const Id shown = space_of(dataset.shape, part.start, part.extent, where);
    const Id source = space_of({&end, 1}, {&part.source_begin, 1}, {&count, 1},
                               where);  // the file stores the selection, not the source's extent
    check(H5Pset_virtual(creation.get(), shown.get(), part.file.c_str(), inside.c_str(), source.get()), where, "create",
          ExitCode::internal);
  }
  const std::vector<hsize_t> extents(dataset.shape.begin(), dataset.shape.end());
  const Id space(check(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr), where, "create",
                       ExitCode::usage));
  const Id made(check(
      H5Dcreate2(id(), inside.c_str(), file_type(dataset.type), space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
      where, "create", ExitCode::io));
}

VirtualDataset File::virtual_dataset(std::string_view path, std::int64_t most_parts) const {
  const SilencedErrors silenced;
  const Id found = open_object(path);
  const std::string where = where_of(path_, path), inside = where.substr(path_.size() + 1);
  require(H5Iget_type(found.get()) == H5I_DATASET, "{}: is not a dataset", where);
  const Id creation(check(H5Dget_create_plist(found.get()), where, "read how it is stored", damaged_));
  require(H5Pget_layout(creation.get()) == H5D_VIRTUAL, "{}: is not a virtual dataset", where);
  std::size_t count = 0;
  check(H5Pget_virtual_count(creation.get(), &count), where, "read its mappings", damaged_);
  require(count <= static_cast<std::size_t>(most_parts), "{}: has {} mappings, expected at most {}", where, count,
          most_parts);

  // The shape is read last. For a mapping without a fixed extent libHDF5 would open the source files to compute the
  // shape; an error was thrown for such mappings before.
  VirtualDataset dataset;
  for (std::size_t p = 0; p < count; ++p) {
    VirtualDataset::Part part{.file = text_of(H5Pget_virtual_filename, creation.get(), p, where, damaged_)};
    const std::string source_path = text_of(H5Pget_virtual_dsetname, creation.get(), p, where, damaged_);
    require(source_path == inside, "{}: mapping {} has source {}:{}, expected a dataset of the same path", where, p,
            part.file, source_path);
    const Id shown(check(H5Pget_virtual_vspace(creation.get(), p), where, "read its mappings", damaged_));
    const Id source(check(H5Pget_virtual_srcspace(creation.get(), p), where, "read its mappings", damaged_));
    Selection box = box_of(shown.get(), where, damaged_), from = box_of(source.get(), where, damaged_);
    require(from.start.size() == 1 && from.extent[0] == product(box.extent, where),
            "{}: mapping {} has a box of [{}], but its source selection is [{}] in {}", where, p,
            fmt::join(box.extent, ", "), fmt::join(from.extent, ", "), part.file);
    part.start = std::move(box.start);
    part.extent = std::move(box.extent);
    part.source_begin = from.start[0];
    dataset.parts.push_back(std::move(part));
  }
  const Id space(check(H5Dget_space(found.get()), where, "read its shape", damaged_));
  dataset.shape = extents_of(space.get(), where, damaged_);
  const Id type(check(H5Dget_type(found.get()), where, "read its type", damaged_));
  dataset.type = element_type_of(type.get());
  require(is_weight(dataset.type), "{}: holds {}, expected f64, f32, f16 or bf16", where, dataset.type.to_string());
  return dataset;
}

}  // namespace causeway::hdf5
