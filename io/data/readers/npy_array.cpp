#include "io/data/readers/npy_array.hpp"

#include <algorithm>
#include <optional>

#include "io/file/compression/compression.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view magic = "\x93NUMPY"sv;
constexpr std::int64_t longest_header = 64 << 10;  // numpy itself refuses more than 10,000 bytes

struct Header {
  std::string descr;
  std::vector<std::int64_t> shape;
};

/// The header is a literal of Python: {'descr': '<u2', 'fortran_order': False, 'shape': (218,), }.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& path) : rest_(text), path_(path) {}

  Header parse() {
    std::optional<std::string> descr;
    std::optional<std::vector<std::int64_t>> shape;
    expect('{');
    while (!next_is('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr") {
        require(!next_is('['), "{}: holds records of several fields, expected one number an element", path_);
        descr = string();
      } else if (key == "shape") {
        shape = tuple();
      } else if (key == "fortran_order") {
        if (!skip_word("True") && !skip_word("False")) refuse("True or False");
      } else {
        refuse("the keys descr, fortran_order and shape");
      }
      if (!next_is('}')) expect(',');
    }
    expect('}');
    skip_blanks();
    if (!rest_.empty()) refuse("its end");
    if (!descr || !shape) refuse("the keys descr and shape");
    return {*descr, *shape};
  }

 private:
  [[noreturn]] void refuse(std::string_view expected) const {
    fail(ExitCode::usage, "{}: has a damaged header of numpy, expected {}", path_, expected);
  }
  void skip_blanks() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t\n"), rest_.size())); }
  bool next_is(char byte) {
    skip_blanks();
    return rest_.starts_with(byte);
  }
  void expect(char byte) {
    if (!next_is(byte)) refuse(fmt::format("'{}'", byte));
    rest_.remove_prefix(1);
  }
  bool skip_word(std::string_view word) {
    skip_blanks();
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  std::string string() {
    const char quote = next_is('"') ? '"' : '\'';
    expect(quote);
    const std::size_t end = rest_.find(quote);
    if (end == rest_.npos) refuse("the end of a string");
    std::string text(rest_.substr(0, end));
    rest_.remove_prefix(end + 1);
    return text;
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> values;
    expect('(');
    while (!next_is(')')) {
      std::int64_t value = 0;
      const std::size_t digits = std::min(rest_.find_first_not_of("0123456789"), rest_.size());
      if (digits == 0 || digits > 18) refuse("a size below 10^18");
      for (const char digit : rest_.substr(0, digits)) value = value * 10 + (digit - '0');
      rest_.remove_prefix(digits);
      skip_word("L");  // Python 2
      values.push_back(value);
      if (!next_is(')')) expect(',');
    }
    expect(')');
    return values;
  }

  std::string_view rest_;
  const std::string& path_;
};

NumberType type_of(const std::string& descr, const std::string& path) {
  using Kind = NumberType::Kind;
  const auto refuse = [&](std::string_view why) {
    fail(ExitCode::usage, "{}: holds elements of numpy's type '{}'{}, expected integers, bool, float32 or float64",
         path, descr, why);
  };
  if (descr.size() != 3 || "<>|="sv.find(descr[0]) == std::string_view::npos || descr[2] < '0' || descr[2] > '9')
    refuse(descr.find('O') == descr.npos ? "" : ", Python objects, which are never read");
  const NumberType type{.kind = descr[1] == 'b'   ? Kind::boolean
                                : descr[1] == 'u' ? Kind::unsigned_integer
                                : descr[1] == 'i' ? Kind::signed_integer
                                                  : Kind::floating,
                        .bytes = descr[2] - '0',
                        .big_endian = descr[0] == '>'};
  const bool power = type.bytes == 1 || type.bytes == 2 || type.bytes == 4 || type.bytes == 8;
  if ("buif"sv.find(descr[1]) == std::string_view::npos || !power || (type.kind == Kind::boolean && type.bytes != 1))
    refuse("");
  return type;
}

}  // namespace

NumberArray read_npy_header(const ByteSource& file) {
  const std::string& path = file.path();
  const std::string start = file.text(0, std::min<std::int64_t>(file.size(), 12));
  if (const Compression* const found = compression_of_bytes(start))
    fail(ExitCode::usage, "{}: is compressed with {}, but is read at any offset; decompress it first: {}", path,
         found->name, found->command);
  require(start.starts_with(magic), "{}: does not start as a file of numpy.save() does; .npz and pickles are not read",
          path);
  require(start.size() >= 10, "{}: has {} bytes, expected a header", path, file.size());
  const auto byte = [&](std::size_t at) { return static_cast<std::int64_t>(static_cast<unsigned char>(start[at])); };
  const std::int64_t version = byte(6), prefix = version == 1 ? 10 : 12;
  require(version >= 1 && version <= 3, "{}: has numpy's format {}.{}, expected 1.0 to 3.0", path, version, byte(7));
  require(file.size() >= prefix, "{}: has {} bytes, expected a header", path, file.size());
  const std::int64_t length = byte(8) | byte(9) << 8 | (version == 1 ? 0 : byte(10) << 16 | byte(11) << 24);
  require(length <= longest_header && length <= file.size() - prefix,
          "{}: has a header of {} bytes, expected at most {} within the file's {} bytes", path, length, longest_header,
          file.size());
  const Header header = HeaderParser(file.text(prefix, length), path).parse();
  const NumberType type = type_of(header.descr, path);
  require(header.shape.size() == 1, "{}: has {} dimensions, ({}), expected 1; numpy's reshape(-1) makes it so", path,
          header.shape.size(), fmt::join(header.shape, ", "));
  const std::int64_t held = file.size() - prefix - length;
  require(header.shape[0] <= held / type.bytes && header.shape[0] * type.bytes == held,
          "{}: has {} bytes of data, expected {} elements of {} bytes as its header says", path, held, header.shape[0],
          type.bytes);
  return {file, prefix + length, header.shape[0], type, "the array"};
}

}  // namespace causeway
