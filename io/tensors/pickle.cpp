#include "io/tensors/pickle.hpp"

#include <algorithm>
#include <bit>

#include "io/file/utf8.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

/// The stack machine. Every method is one opcode or a part of one.
class PickleReader {
 public:
  using Kind = PickleValue::Kind;

  PickleReader(Pickle& pickle, const std::string& where, std::span<const std::string_view> known)
      : pickle_(pickle), where_(where), known_(known) {}

  void run() {
    while (pickle_.root_ == nullptr) {
      start_ = at_;
      step(static_cast<unsigned char>(take(1)[0]));
    }
  }

 private:
  template <class... Args>
  [[noreturn]] void damaged(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ExitCode::corrupt, "{}: byte {}: {}", where_, start_, fmt::format(format, std::forward<Args>(args)...));
  }
  void expect(bool holds, const char* what) const {
    if (!holds) damaged("the pickle is damaged: {}", what);
  }

  std::string_view take(std::uint64_t count) {
    if (count > pickle_.bytes_.size() - at_)
      damaged("the pickle ends: {} bytes are left, expected {}", pickle_.bytes_.size() - at_, count);
    const std::string_view bytes = std::string_view(pickle_.bytes_).substr(at_, static_cast<std::size_t>(count));
    at_ += static_cast<std::size_t>(count);
    return bytes;
  }
  std::uint64_t number(std::size_t size) {
    std::uint64_t value = 0;
    const std::string_view bytes = take(size);
    for (std::size_t i = 0; i < size; ++i)
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
    return value;
  }
  std::int64_t signed_number(std::size_t size) { return static_cast<std::int64_t>(number(size)); }
  std::string_view line() {
    const std::size_t end = pickle_.bytes_.find('\n', at_);
    expect(end != std::string::npos, "a global's name does not end");
    const std::string_view text = take(end - at_);
    take(1);
    return text;
  }

  PickleValue& make(Kind kind) {
    if (pickle_.values_.size() >= Pickle::most_values)
      fail(ExitCode::usage, "{}: the pickle has more than {} values", where_, Pickle::most_values);
    PickleValue& value = pickle_.values_.emplace_back();
    value.kind = kind;
    return value;
  }
  void push(PickleValue& value) {
    expect(stack_.size() < Pickle::most_values, "its stack is too large");
    stack_.push_back(&value);
  }
  void push_integer(std::int64_t integer, Kind kind = Kind::integer) {
    PickleValue& value = make(kind);
    value.integer = integer;
    push(value);
  }
  void push_text(std::string_view text) {
    expect(is_utf8(text), "a string is not UTF-8");
    PickleValue& value = make(Kind::text);
    value.text = text;
    push(value);
  }
  void push_bytes(std::uint64_t count) {
    take(count);
    push(make(Kind::bytes));
  }
  void push_real() {  // big-endian
    const std::string_view bytes = take(8);
    std::uint64_t bits = 0;
    for (const char byte : bytes) bits = bits << 8 | static_cast<unsigned char>(byte);
    PickleValue& value = make(Kind::real);
    value.real = std::bit_cast<double>(bits);
    push(value);
  }
  /// Two's complement of up to 8 bytes; a longer one becomes a `real` of unknown value, which nothing uses.
  void push_long() {
    const std::size_t size = static_cast<std::size_t>(number(1));
    if (size > 8) {
      take(size);
      push(make(Kind::real));
      return;
    }
    const std::uint64_t bits = number(size);
    const int unused = 64 - 8 * static_cast<int>(size);
    push_integer(size == 0 ? 0 : static_cast<std::int64_t>(bits << unused) >> unused);
  }

  /// The values above the mark, or the topmost `count` values, which leave the stack.
  std::vector<PickleValue*> pop(std::size_t count) {
    expect(count <= stack_.size() - (marks_.empty() ? 0 : marks_.back()), "its stack is empty");
    std::vector<PickleValue*> values(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return values;
  }
  std::vector<PickleValue*> pop_to_mark() {
    expect(!marks_.empty(), "it has no mark");
    std::vector<PickleValue*> values = pop(stack_.size() - marks_.back());
    marks_.pop_back();
    return values;
  }
  PickleValue& top() {
    expect(stack_.size() > (marks_.empty() ? 0 : marks_.back()), "its stack is empty");
    return *stack_.back();
  }

  void push_tuple(const std::vector<PickleValue*>& items) {
    PickleValue& value = make(Kind::tuple);
    value.items.assign(items.begin(), items.end());
    push(value);
  }
  void append(const std::vector<PickleValue*>& items) {
    expect(top().is(Kind::list), "it appends to a value that is not a list");
    top().items.insert(top().items.end(), items.begin(), items.end());
  }
  void set_items(const std::vector<PickleValue*>& items) {
    expect(top().is(Kind::dictionary) && items.size() % 2 == 0, "it sets an item of a value that is not a dictionary");
    top().items.insert(top().items.end(), items.begin(), items.end());
  }

  void push_global(std::string_view module, std::string_view name) {
    std::string text = fmt::format("{} {}", module, name);
    if (std::ranges::find(known_, text) == known_.end())
      fail(ExitCode::usage,
           "{}: byte {}: the pickle refers to '{}.{}', which Causeway does not know and never executes; expected a "
           "dictionary of tensors",
           where_, start_, printable(module), printable(name));
    PickleValue& value = make(Kind::global);
    value.text = pickle_.names_.emplace_back(std::move(text));
    push(value);
  }
  void push_line_global() {
    const std::string_view module = line();
    push_global(module, line());
  }
  void push_stack_global() {
    const auto names = pop(2);
    expect(names[0]->is(Kind::text) && names[1]->is(Kind::text), "a global's name is not a string");
    push_global(names[0]->text, names[1]->text);
  }
  /// The start of a text from a file, for messages: printable ASCII, at most 100 characters.
  static std::string printable(std::string_view text) {
    std::string shown(text.substr(0, 100));
    for (char& letter : shown)
      if (letter < ' ' || letter > '~') letter = '?';
    return shown;
  }

  /// An OrderedDict is a dictionary; every other call stays one.
  void call() {
    const auto parts = pop(2);
    expect(parts[0]->is(Kind::global) && parts[1]->is(Kind::tuple), "it calls a value that is not a global");
    if (parts[0]->text == "collections OrderedDict" && parts[1]->items.empty()) return push(make(Kind::dictionary));
    PickleValue& value = make(Kind::call);
    value.items = {parts[0], parts[1]};
    push(value);
  }
  void push_persistent() {
    const auto id = pop(1);
    PickleValue& value = make(Kind::persistent);
    value.items = {id[0]};
    push(value);
  }
  /// The state of an object: attributes of a dictionary (_metadata), the contents of a BytesIO. None is used.
  void build() {
    pop(1);
    expect(top().is(Kind::dictionary) || top().is(Kind::call), "it gives a state to a value that is not an object");
  }

  void store(std::uint64_t index) {
    expect(index < Pickle::most_values, "it has too many memo entries");
    if (index >= memo_.size()) memo_.resize(static_cast<std::size_t>(index) + 1);
    memo_[static_cast<std::size_t>(index)] = &top();
  }
  void fetch(std::uint64_t index) {
    expect(index < memo_.size() && memo_[static_cast<std::size_t>(index)] != nullptr, "it has no such memo entry");
    push(*memo_[static_cast<std::size_t>(index)]);
  }
  void stop() {
    expect(stack_.size() == 1 && marks_.empty(), "its stack does not have one value at its end");
    expect(at_ == pickle_.bytes_.size(), "bytes follow its end");
    pickle_.root_ = stack_[0];
  }

  void protocol() {
    const std::uint64_t version = number(1);
    if (version < 2 || version > 5)
      fail(ExitCode::usage, "{}: the pickle has protocol {}, expected 2 to 5", where_, version);
  }

  void step(unsigned char code);

  struct Opcode {
    unsigned char code;
    void (*run)(PickleReader&);
  };
  static const Opcode opcodes[];

  Pickle& pickle_;
  const std::string& where_;
  std::span<const std::string_view> known_;
  std::size_t at_ = 0, start_ = 0;  ///< the next byte; the opcode that is executed
  std::vector<PickleValue*> stack_, memo_;
  std::vector<std::size_t> marks_;
};

/// With the names of pickletools.py.
constexpr PickleReader::Opcode PickleReader::opcodes[] = {
    {0x80, [](PickleReader& r) { r.protocol(); }},                        // PROTO
    {0x95, [](PickleReader& r) { r.take(8); }},                           // FRAME: for readers that buffer
    {'(', [](PickleReader& r) { r.marks_.push_back(r.stack_.size()); }},  // MARK
    {'.', [](PickleReader& r) { r.stop(); }},                             // STOP
    {'}', [](PickleReader& r) { r.push(r.make(Kind::dictionary)); }},     // EMPTY_DICT
    {']', [](PickleReader& r) { r.push(r.make(Kind::list)); }},           // EMPTY_LIST
    {')', [](PickleReader& r) { r.push_tuple({}); }},                     // EMPTY_TUPLE
    {'t', [](PickleReader& r) { r.push_tuple(r.pop_to_mark()); }},        // TUPLE
    {0x85, [](PickleReader& r) { r.push_tuple(r.pop(1)); }},              // TUPLE1
    {0x86, [](PickleReader& r) { r.push_tuple(r.pop(2)); }},              // TUPLE2
    {0x87, [](PickleReader& r) { r.push_tuple(r.pop(3)); }},              // TUPLE3
    {'a', [](PickleReader& r) { r.append(r.pop(1)); }},                   // APPEND
    {'e', [](PickleReader& r) { r.append(r.pop_to_mark()); }},            // APPENDS
    {'s', [](PickleReader& r) { r.set_items(r.pop(2)); }},                // SETITEM
    {'u', [](PickleReader& r) { r.set_items(r.pop_to_mark()); }},         // SETITEMS
    {'N', [](PickleReader& r) { r.push(r.make(Kind::none)); }},           // NONE
    {0x88, [](PickleReader& r) { r.push_integer(1, Kind::boolean); }},    // NEWTRUE
    {0x89, [](PickleReader& r) { r.push_integer(0, Kind::boolean); }},    // NEWFALSE
    {'K', [](PickleReader& r) { r.push_integer(r.signed_number(1)); }},   // BININT1
    {'M', [](PickleReader& r) { r.push_integer(r.signed_number(2)); }},   // BININT2
    {'J', [](PickleReader& r) { r.push_integer(static_cast<std::int32_t>(r.number(4))); }},  // BININT
    {0x8a, [](PickleReader& r) { r.push_long(); }},                                          // LONG1
    {'G', [](PickleReader& r) { r.push_real(); }},                                           // BINFLOAT
    {0x8c, [](PickleReader& r) { r.push_text(r.take(r.number(1))); }},                       // SHORT_BINUNICODE
    {'X', [](PickleReader& r) { r.push_text(r.take(r.number(4))); }},                        // BINUNICODE
    {0x8d, [](PickleReader& r) { r.push_text(r.take(r.number(8))); }},                       // BINUNICODE8
    {'C', [](PickleReader& r) { r.push_bytes(r.number(1)); }},                               // SHORT_BINBYTES
    {'B', [](PickleReader& r) { r.push_bytes(r.number(4)); }},                               // BINBYTES
    {0x8e, [](PickleReader& r) { r.push_bytes(r.number(8)); }},                              // BINBYTES8
    {'c', [](PickleReader& r) { r.push_line_global(); }},                                    // GLOBAL
    {0x93, [](PickleReader& r) { r.push_stack_global(); }},                                  // STACK_GLOBAL
    {'Q', [](PickleReader& r) { r.push_persistent(); }},                                     // BINPERSID
    {'R', [](PickleReader& r) { r.call(); }},                                                // REDUCE
    {0x81, [](PickleReader& r) { r.call(); }},                                               // NEWOBJ
    {'b', [](PickleReader& r) { r.build(); }},                                               // BUILD
    {'q', [](PickleReader& r) { r.store(r.number(1)); }},                                    // BINPUT
    {'r', [](PickleReader& r) { r.store(r.number(4)); }},                                    // LONG_BINPUT
    {0x94, [](PickleReader& r) { r.store(r.memo_.size()); }},                                // MEMOIZE
    {'h', [](PickleReader& r) { r.fetch(r.number(1)); }},                                    // BINGET
    {'j', [](PickleReader& r) { r.fetch(r.number(4)); }},                                    // LONG_BINGET
};

void PickleReader::step(unsigned char code) {
  const auto opcode = std::ranges::find(opcodes, code, &Opcode::code);
  if (opcode == std::end(opcodes))
    fail(ExitCode::usage, "{}: byte {}: the pickle has the opcode 0x{:02x}, which Causeway does not execute", where_,
         start_, code);
  opcode->run(*this);
}

Pickle::Pickle(std::string bytes, std::string where, std::span<const std::string_view> known)
    : bytes_(std::move(bytes)) {
  PickleReader(*this, where, known).run();
}

}  // namespace causeway
