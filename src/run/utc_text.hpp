#pragma once

#include <string>

namespace causeway {

/// The time of this machine's clock, in seconds since 1970-01-01 UTC.
double seconds_since_1970();

/// Formats seconds since 1970 as "2026-11-22T07:19:33.120Z".
std::string utc_text(double seconds);

}  // namespace causeway
