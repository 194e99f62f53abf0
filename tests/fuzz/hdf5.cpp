// Any HDF5 file: everything in it is listed and read, or throws Error.
#include "io/hdf5/hdf5.hpp"

#include <algorithm>

#include "tests/fuzz/fuzz.hpp"

namespace causeway::fuzz {
namespace {

constexpr int deepest = 4;  // a mutated group may contain itself
constexpr std::int64_t most_values = 1 << 20, most_strings = 1000;
constexpr std::initializer_list<ExitCode> refusals = {ExitCode::usage, ExitCode::corrupt};

void read_attributes(const hdf5::Object& object) {
  accepts(
      [&] {
        for (const std::string& name : object.attribute_names()) accepts([&] { object.attribute(name); }, refusals);
      },
      refusals);
}

void read_dataset(const hdf5::File& file, const std::string& path) {
  const hdf5::Dataset dataset = file.dataset(path);
  read_attributes(dataset);
  if (dataset.type().kind == hdf5::ElementType::Kind::string) {
    dataset.read_strings(0, std::min(dataset.rows(), most_strings));
  } else if (dataset.type().kind == hdf5::ElementType::Kind::integer) {
    dataset.read_all<std::int64_t>(most_values);
  } else {
    dataset.read_all<double>(most_values);
  }
}

void read_group(const hdf5::File& file, const std::string& group, int depth) {
  if (depth > deepest) return;
  read_attributes(file.group(group));
  for (const std::string& name : file.list(group)) {
    const std::string path = group + "/" + name;
    accepts(
        [&] {
          if (file.is_dataset(path))
            read_dataset(file, path);
          else
            read_group(file, path, depth + 1);
        },
        refusals);
  }
}

}  // namespace
}  // namespace causeway::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace causeway;
  using namespace causeway::fuzz;
  static const causeway::testing::TemporaryFolder folder;
  const std::string path = folder.write("any.h5", text_of(data, size));
  accepts([&] { read_group(hdf5::File::open(path, hdf5::Access::read), "/", 0); }, refusals);
  return 0;
}
