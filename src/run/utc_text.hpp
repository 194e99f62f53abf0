#pragma once

#include <string>

namespace causeway {

/// This machine's clock, in seconds since 1970-01-01 UTC.
double seconds_since_1970();

/// "2026-11-22T07:19:33.120Z" of seconds since 1970.
std::string utc_text(double seconds);

}  // namespace causeway
