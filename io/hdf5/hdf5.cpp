#include "io/hdf5/hdf5.hpp"

#include <fcntl.h>
#include <hdf5.h>

#include <filesystem>

#include "io/file/descriptor.hpp"
#include "io/file/look_up.hpp"
#include "io/hdf5/check.hpp"
#include "io/hdf5/chunk_reader.hpp"
#include "io/hdf5/storage.hpp"
#include "io/hdf5/types.hpp"
#include "io/hdf5_guard/hdf5_guard.hpp"

namespace causeway::hdf5 {

namespace {

/// Opens or creates a file by open(access properties). libHDF5 locks each file that it opens. On a file system without
/// locks it is opened again without one, as is a file that another thread has open so. HDF5_USE_FILE_LOCKING in the
/// environment takes precedence over this in libHDF5.
template <class Open>
hid_t open_locked_if_possible(hid_t properties, Open&& open) {
  const hid_t file = open(properties);
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
  if (file >= 0) return file;
  const LibraryError error = last_error();
  if (!error.locking || (error.system_error != 0 && !means_no_locks(error.system_error))) return file;
  if (H5Pset_file_locking(properties, false, true) >= 0) return open(properties);
#endif
  return file;
}

}  // namespace

bool is_hdf5(const std::string& path) {
  const SilencedErrors silenced;
  // libHDF5 says of a file that it cannot open only that it is not HDF5.
  Descriptor(posix_check(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path, "open"));
  return check(H5Fis_hdf5(path.c_str()), path, "read", ExitCode::io) > 0;
}

File File::open(const std::string& path, Access access, ExitCode damaged) {
  const SilencedErrors silenced;
  const Id properties(check(H5Pcreate(H5P_FILE_ACCESS), path, "open", ExitCode::internal));
  Id id;
  std::shared_ptr<hdf5_guard::FileGuard> guard;  // only for reading: a file that is being written is incomplete on disk
  if (access == Access::create) {
    const Id creation(check(H5Pcreate(H5P_FILE_CREATE), path, "create", ExitCode::internal));
    check(H5Pset_obj_track_times(creation.get(), false), path, "create", ExitCode::internal);
    // Format 1.10 has checksums on its own structures too, so that damage to them is detected.
    check(H5Pset_libver_bounds(properties.get(), H5F_LIBVER_V110, H5F_LIBVER_V110), path, "create", ExitCode::internal);
    const auto create = [&](hid_t with) { return H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), with); };
    id = Id(check(open_locked_if_possible(properties.get(), create), path, "create", ExitCode::io));
  } else {
    require(require_file(path) == std::filesystem::file_type::regular, "{}: is not a regular file", path);
    require(is_hdf5(path), "{}: is not an HDF5 file", path);
    if (access == Access::read) guard = std::make_shared<hdf5_guard::FileGuard>(path, damaged);
    const unsigned mode = access == Access::read ? H5F_ACC_RDONLY : H5F_ACC_RDWR;
    const auto open = [&](hid_t with) { return H5Fopen(path.c_str(), mode, with); };
    id = Id(check(open_locked_if_possible(properties.get(), open), path, "open", damaged));
  }
  File file(std::move(id), path, damaged);
  file.path_ = path;
  file.access_ = access;
  file.guard_ = std::move(guard);
  file.where_ = path + ":/";
  return file;
}

bool File::exists(std::string_view path) const {
  const SilencedErrors silenced;
  const std::vector<std::string> parts = path_parts(path);
  std::string so_far;
  for (const std::string& part : parts) {
    if (!so_far.empty() && H5Iget_type(open_checked(so_far).get()) != H5I_GROUP) return false;
    so_far += "/" + part;
    const std::string where = path_ + ":" + so_far;
    if (check(H5Lexists(id(), so_far.c_str(), H5P_DEFAULT), where, "look it up", damaged_) == 0) return false;
    H5L_info_t link{};
    check(H5Lget_info(id(), so_far.c_str(), &link, H5P_DEFAULT), where, "look it up", damaged_);
    require(link.type == H5L_TYPE_HARD, "{}: is a link to elsewhere, expected the object itself", where);
    if (guard_) guard_->check_object(link.u.address, where);
  }
  return true;
}

/// Opens an object after exists() has checked every part of its path.
Id File::open_checked(const std::string& path) const {
  return Id(check(H5Oopen(id(), path.c_str(), H5P_DEFAULT), path_ + ":" + path, "open", damaged_));
}

Id File::open_object(std::string_view path) const {
  const std::string where = where_of(path_, path);
  require(exists(path), "{}: is missing", where);
  return open_checked(where.substr(path_.size() + 1));
}

bool File::is_dataset(std::string_view path) const {
  const SilencedErrors silenced;
  return exists(path) && H5Iget_type(open_object(path).get()) == H5I_DATASET;
}

std::vector<std::string> File::list(std::string_view path) const {
  const SilencedErrors silenced;
  const Object folder = group(path);
  std::vector<std::string> names;
  hsize_t position = 0;
  const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  check(H5Literate(folder.id(), H5_INDEX_NAME, H5_ITER_INC, &position, collect, &names), folder.where(), "list",
        damaged_);
  return names;
}

std::uint64_t File::address(std::string_view path) const {
  const SilencedErrors silenced;
  const std::string where = where_of(path_, path);
  require(exists(path), "{}: is missing", where);
  H5L_info_t link{};
  check(H5Lget_info(id(), where.c_str() + path_.size() + 1, &link, H5P_DEFAULT), where, "look it up", damaged_);
  return link.u.address;
}

Dataset File::dataset(std::string_view path) const {
  const SilencedErrors silenced;
  Id found = open_object(path);
  const std::string where = where_of(path_, path);
  require(H5Iget_type(found.get()) == H5I_DATASET, "{}: is not a dataset", where);
  check_storage(found.get(), where, damaged_);
  Dataset dataset(std::move(found), where, damaged_);
  if (access_ == Access::read) {
    check_size(dataset, path_);
    check_strings_outside_chunks(dataset, path_, damaged_);
    if (is_chunked(dataset.id(), where, damaged_))
      dataset.chunk_reader_ = std::make_shared<ChunkReader>(dataset.id(), path_, where, damaged_);
  }
  return dataset;
}

Object File::group(std::string_view path) const {
  const SilencedErrors silenced;
  Id found = open_object(path);
  const std::string where = where_of(path_, path);
  require(H5Iget_type(found.get()) == H5I_GROUP, "{}: is not a group", where);
  return Object(std::move(found), where, damaged_);
}

/// Creates the parent groups of `path` that are missing. libHDF5 could create them, but would store the time in them.
void File::create_parents(std::string_view path) {
  const std::vector<std::string> parts = path_parts(path);
  std::string so_far;
  for (std::size_t p = 0; p + 1 < parts.size(); ++p) {
    so_far += "/" + parts[p];
    if (!exists(so_far)) create_one_group(so_far);
  }
}

Id File::create_one_group(const std::string& path) {
  const std::string where = path_ + ":" + path;
  const Id creation(check(H5Pcreate(H5P_GROUP_CREATE), where, "create", ExitCode::internal));
  check(H5Pset_obj_track_times(creation.get(), false), where, "create", ExitCode::internal);
  return Id(
      check(H5Gcreate2(id(), path.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), where, "create", ExitCode::io));
}

Dataset File::create_dataset(std::string_view path, const DatasetOptions& options) {
  const SilencedErrors silenced;
  create_parents(path);
  const std::string where = where_of(path_, path);
  const bool chunked = options.chunk_rows > 0;
  ensure(chunked || (!options.shuffle && options.deflate == 0 && !options.fletcher32), "{}: filters need chunks",
         where);
  ensure(!(chunked && options.allocate_early), "{}: only a contiguous dataset is allocated early", where);

  const Id creation(check(H5Pcreate(H5P_DATASET_CREATE), where, "create", ExitCode::internal));
  check(H5Pset_obj_track_times(creation.get(), false), where, "create", ExitCode::internal);
  const std::vector<hsize_t> extents(options.shape.begin(), options.shape.end());
  std::vector<hsize_t> largest = extents;
  if (chunked) {
    ensure(!extents.empty(), "{}: a scalar has no chunks", where);
    std::vector<hsize_t> chunk = extents;
    chunk.front() = static_cast<hsize_t>(options.chunk_rows);
    largest.front() = H5S_UNLIMITED;
    check(H5Pset_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data()), where, "set its chunks",
          ExitCode::internal);
    if (options.shuffle) check(H5Pset_shuffle(creation.get()), where, "set its filters", ExitCode::internal);
    if (options.deflate > 0)
      check(H5Pset_deflate(creation.get(), static_cast<unsigned>(options.deflate)), where, "set its filters",
            ExitCode::internal);
    if (options.fletcher32) check(H5Pset_fletcher32(creation.get()), where, "set its filters", ExitCode::internal);
  }
  if (options.allocate_early) {
    check(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY), where, "set its allocation", ExitCode::internal);
    check(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), where, "set its allocation", ExitCode::internal);
  }
  const Id space(extents.empty()
                     ? check(H5Screate(H5S_SCALAR), where, "create", ExitCode::internal)
                     : check(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), largest.data()), where,
                             "create", ExitCode::usage));
  const Id text = options.type == string ? string_type() : Id();
  const hid_t stored = text ? text.get() : file_type(options.type);
  Id made(check(
      H5Dcreate2(id(), where.c_str() + path_.size() + 1, stored, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
      where, "create", ExitCode::io));
  return Dataset(std::move(made), where, damaged_);
}

Object File::create_group(std::string_view path) {
  const SilencedErrors silenced;
  create_parents(path);
  const std::string where = where_of(path_, path);
  return Object(create_one_group(where.substr(path_.size() + 1)), where, damaged_);
}

void File::remove(std::string_view path) {
  const SilencedErrors silenced;
  const std::string where = where_of(path_, path);
  check(H5Ldelete(id(), where.c_str() + path_.size() + 1, H5P_DEFAULT), where, "remove", ExitCode::io);
}

void File::flush() {
  const SilencedErrors silenced;
  check(H5Fflush(id(), H5F_SCOPE_LOCAL), path_, "write", ExitCode::io);
}

void File::close() {
  const SilencedErrors silenced;
  if (!id_) return;
  const hid_t file = id();
  check(H5Fflush(file, H5F_SCOPE_LOCAL), path_, "write", ExitCode::io);
  ensure(H5Fget_obj_count(file, H5F_OBJ_ALL) == 1, "{}: closed while its objects are in use", path_);
  check(H5Fclose(id_.release()), path_, "close", ExitCode::io);
}

}  // namespace causeway::hdf5
