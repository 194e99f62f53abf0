#include "parallel/cost/repeated_seconds.hpp"

#include <algorithm>
#include <limits>

namespace causeway {

void RepeatedSeconds::add(double seconds) {
  fastest_.insert(std::ranges::upper_bound(fastest_, seconds), seconds);
  fastest_.resize(std::min(fastest_.size(), confirmations));
  total_ += seconds;
}

bool RepeatedSeconds::settled() const {
  return fastest_.size() == confirmations && fastest_.back() <= agreement * fastest_.front();
}

double RepeatedSeconds::infinity() { return std::numeric_limits<double>::infinity(); }

}  // namespace causeway
