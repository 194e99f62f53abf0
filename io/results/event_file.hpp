#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "io/file/descriptor.hpp"

namespace causeway {

/// CRC-32C (Castagnoli; RFC 3720, B.4): that of "123456789" is 0xe3069283.
std::uint32_t crc32c(std::string_view bytes);

/// A record of TensorFlow's TFRecord format: u64 length, u32 masked CRC-32C of these 8 bytes, `data`, u32 masked
/// CRC-32C of `data`, all little-endian; masked(c) = ((c >> 15) | (c << 17)) + 0xa282ead8.
std::string tf_record(std::string_view data);

/// A value of a curve in TensorBoard.
struct Scalar {
  std::string_view tag;  ///< "train/loss"
  float value = 0;
};

/// A TensorBoard event file, FOLDER/events.out.tfevents.SECONDS.HOST.PID: TFRecords of protobuf messages Event
/// (tensorflow/core/util/event.proto, summary.proto). Each add() is one write(2) of complete records, so that a
/// TensorBoard that reads the file while it grows sees it at once, and a killed process leaves a file that can be read.
class EventFile {
 public:
  /// Creates the file; `wall_time` is the present time in seconds since 1970. SECONDS is greater than that of every
  /// event file in the folder, because TensorBoard reads files in the order of their names. Throws Error(io).
  EventFile(const std::string& folder, const std::string& host, double wall_time);

  const std::string& path() const { return path_; }
  /// A run starts again at `step`: TensorBoard forgets values of this step and of later ones (SessionLog START).
  void restart_at(std::int64_t step, double wall_time);
  /// Values of one step. Both throw Error(io), and leave the file as it was.
  void add(std::int64_t step, double wall_time, std::span<const Scalar> scalars);

 private:
  void write(std::string_view event);

  std::string path_;
  Descriptor file_;
  std::int64_t bytes_ = 0;
};

}  // namespace causeway
