#pragma once

#include <cstddef>
#include <vector>

namespace causeway {

/// Times of the same work, measured until they repeat. A run that another program interrupts takes up to hundreds of
/// times longer, and several in a row may do so; nothing makes one faster. So the fastest run counts, but only when
/// others confirm it: one fast run among slow ones says that the slow ones were disturbed, not what is usual.
class RepeatedSeconds {
 public:
  static constexpr std::size_t confirmations = 3;  ///< runs that must agree, the fastest one included
  static constexpr double agreement = 1.2;         ///< a run agrees if it took at most so many times the fastest

  void add(double seconds);
  bool settled() const;
  /// The fastest run's; infinity without a run. What is usual here only if settled().
  double seconds() const { return fastest_.empty() ? infinity() : fastest_.front(); }
  double total() const { return total_; }  ///< of all runs

 private:
  static double infinity();

  std::vector<double> fastest_;  // the fastest runs, in order, at most `confirmations`
  double total_ = 0;
};

}  // namespace causeway
