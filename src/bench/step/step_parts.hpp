#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/core/trace.hpp"

namespace causeway {

/// Seconds by name.
using StepParts = std::map<std::string, double>;

/// The time of every part of a traced step, from the spans of one lane. A moment belongs to the span that began last of
/// those that have not ended, so parts do not overlap: what a kernel calls is not counted in the kernel too.
///   "selective_scan forward"      an operator; forward and backward as its name says, else as the range around it
///   "gemm backward", "gemm head"  matrix products; head: of the output head, forward and backward
///   "exchange optimizer"          calls of the communicator that the lane waits for
///   "optimizer"                   all operators of the optimizer
///   "rest"                        inside the ranges, but in no operator
/// Spans named `ignored` count for nothing.
StepParts parts_of(const std::vector<TraceSpan>& spans, TraceLane lane, std::string_view ignored = {});

}  // namespace causeway
