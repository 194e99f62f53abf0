#include "src/watch/view.hpp"

#include <algorithm>

#include "src/watch/frame.hpp"

namespace causeway {

std::vector<std::string> RunView::frame(double now, const Look& look) const { return build_frame(run_, now, look); }

std::string RunView::line(double now, const Look& look) const { return status_line(run_, now, look); }

bool RunListView::ended() const {
  return !reading() && std::ranges::all_of(runs_, [](const ListedRun& run) { return run.state.end.has_value(); });
}

bool RunListView::reading() const {
  return std::ranges::any_of(runs_, [](const ListedRun& run) { return run.state.unread_bytes > 0; });
}

std::vector<std::string> RunListView::frame(double now, const Look& look) const {
  return build_run_list(folder_, runs_, now, look);
}

std::string RunListView::line(double now, const Look& look) const {
  return build_run_list(folder_, runs_, now, look).front();
}

}  // namespace causeway
