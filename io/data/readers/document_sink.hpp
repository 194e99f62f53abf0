#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file/line_reader.hpp"

namespace causeway {

/// What readers found wrong and passed over.
struct PassedOver {
  static constexpr std::size_t shown = 10;
  std::int64_t records = 0;
  std::vector<std::string> reasons;  ///< of the first `shown` ones: file, line, what was found
};

/// Receives the documents of a reader, in parts.
class DocumentSink {
 public:
  // What receives them: begin_document once for each document, append any number of times, then end_document, or
  // drop_document for one that is not to be kept. `weights`: of the tokens as labels, one for each, or none.
  std::function<void(const std::string& name)> begin_document;
  std::function<void(std::span<const std::int32_t> tokens, std::span<const float> weights)> append_tokens;
  std::function<void()> end_document;
  std::function<void()> drop_document;

  std::int64_t vocabulary_size = 0;
  bool skip_bad = false;  ///< wrong records are passed over; then drop_document has to work

  /// How many names are stored in another form: see stored_name() in io/data/dataset.hpp.
  struct ChangedNames {
    std::int64_t latin1 = 0, nul = 0;
    std::string first;
    std::int64_t count() const { return latin1 + nul; }
  };
  ChangedNames changed_names;  ///< since it was last set
  PassedOver passed_over;

  /// Begins a document, and ends the one before. `latin1`: the name was converted already.
  void begin(const std::string& name, bool latin1 = false);
  /// Byte b is token b. Without a document, which accepts() has dropped, nothing happens.
  void append_bytes(std::string_view bytes);
  void append(std::span<const std::int32_t> tokens, std::span<const float> weights = {});
  void end();

  /// Calls `read`, which reads a part of a record. If it throws RecordError and wrong records are passed over, the
  /// document that is open is dropped, the fault noted if `counts`, and the result is false; the reader then looks for
  /// the next record.
  template <class Read>
  bool accepts(Read&& read, bool counts = true) {
    try {
      read();
      return true;
    } catch (const RecordError& error) {
      if (!skip_bad) throw;
      pass_over(error.what(), counts);
      return false;
    }
  }

  /// For readers of ids: checks that 0 ≤ id < vocabulary_size. A negative id is a RecordError, which begins with
  /// `where()`; so is an id that is too large, if wrong records are passed over. If not, the result is false, and
  /// require_vocabulary() names the smallest vocabulary that fits all ids which were checked.
  template <class Where>
  bool fits(std::int64_t id, Where&& where) {
    if (id >= 0 && id < vocabulary_size) [[likely]]
      return true;
    if (id < 0 || skip_bad || largest_id_ < 0) misfit(id, where());
    largest_id_ = std::max(largest_id_, id);
    return false;
  }
  /// Throws RecordError for the first id that did not fit. To be called when a file was read.
  void require_vocabulary();

 private:
  void pass_over(const char* reason, bool counts);
  void misfit(std::int64_t id, const std::string& where);

  std::array<std::int32_t, 4096> tokens_;
  bool open_ = false;
  std::string first_misfit_;
  std::int64_t largest_id_ = -1;
};

}  // namespace causeway
