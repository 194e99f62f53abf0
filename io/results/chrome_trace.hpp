#pragma once

#include <span>
#include <string>
#include <string_view>

#include "kernels/core/trace.hpp"

namespace causeway {

/// The file around the events: head, the events of each rank separated by ",\n", tail.
inline constexpr std::string_view chrome_trace_head = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n",
                                  chrome_trace_tail = "\n]}\n";

/// The events of one rank in Chrome's trace format (JSON; "Trace Event Format", Google, 2016), which Perfetto and
/// chrome://tracing read: a line each, separated by ",\n". A rank is a process, called `process`; a lane is a thread.
/// Messages in flight that overlap get threads of their own, so that in each thread events nest or follow each other.
/// Times are in µs with three decimals, moved by `shift_s` seconds.
std::string chrome_events(std::span<const TraceSpan> spans, int rank, std::string_view process, double shift_s);

}  // namespace causeway
