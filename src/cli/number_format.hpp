#pragma once

#include <cstdint>
#include <string>

namespace causeway {

/// Numbers as a person reads them.

/// 1234567 → "1.23M": three digits are enough beside a bar.
std::string shortened(double value);
/// 1234567 → "1,234,567".
std::string grouped(std::int64_t value);
/// 754 → "12 min 34 s".
std::string duration(double seconds);
/// 0.0021 → "2.1 ms": seconds of a step's parts.
std::string short_time(double seconds);
/// 3221225472 → "3.00 GiB".
std::string binary_bytes(double bytes);

}  // namespace causeway
