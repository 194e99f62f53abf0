#pragma once

#include <string>
#include <vector>

#include "src/watch/run_list.hpp"
#include "src/watch/run_reader.hpp"
#include "src/watch/text.hpp"

namespace causeway {

/// What `causeway watch` shows: reads it again and again, and makes frames of it.
class View {
 public:
  virtual ~View() = default;

  /// Reads everything again, for at most about `seconds`.
  virtual void poll(double seconds) = 0;
  virtual bool ended() const = 0;    ///< nothing more will change, unless somebody resumes a run
  virtual bool reading() const = 0;  ///< poll() ran out of time
  virtual std::vector<std::string> frame(double now, const Look& look) const = 0;
  virtual std::string line(double now, const Look& look) const = 0;  ///< the same in one line
};

/// One run.
class RunView final : public View {
 public:
  explicit RunView(const std::string& run) : reader_(run) {}
  void poll(double seconds) override { run_ = reader_.poll(seconds); }
  bool ended() const override { return run_.end && run_.unread_bytes == 0; }
  bool reading() const override { return run_.unread_bytes > 0; }
  std::vector<std::string> frame(double now, const Look& look) const override;
  std::string line(double now, const Look& look) const override;

 private:
  RunReader reader_;
  RunState run_;
};

/// A list of all runs in a folder.
class RunListView final : public View {
 public:
  explicit RunListView(std::string folder) : folder_(std::move(folder)), reader_(folder_) {}
  void poll(double seconds) override { runs_ = reader_.poll(seconds); }
  bool ended() const override;
  bool reading() const override;
  std::vector<std::string> frame(double now, const Look& look) const override;
  std::string line(double now, const Look& look) const override;

 private:
  std::string folder_;
  RunListReader reader_;
  std::vector<ListedRun> runs_;
};

}  // namespace causeway
