#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <thread>

#include "io/file/look_up.hpp"
#include "src/cli/command.hpp"
#include "src/cli/signals.hpp"
#include "src/run/utc_text.hpp"
#include "src/watch/terminal.hpp"
#include "src/watch/view.hpp"

namespace causeway {
namespace {

struct WatchSettings {
  std::string run;
  double interval = 1;
  bool once = false, follow = false, no_color = false;
  std::string symbols = "auto";
};

CommandLine declare(WatchSettings& settings) {
  return {
      .usage = "RUN [options]",
      .description =
          "Shows the state of a run of causeway train and redraws it in place: progress and time left, the loss and "
          "its curve (held-out losses as dots), tokens per second, how the time of a step is spent, memory, the "
          "last checkpoint and its cost, each rank, and how the run ended. It only reads the files of the run "
          "directory. So it can be started on any machine that sees the directory, any number of times, and with "
          "--follow also before the run; it needs no MPI and does not disturb the run.\n\n"
          "For a folder of runs it shows a list: the name of each run, its state (running, finished, stopped, failed), "
          "step, losses, and when it changed last.\n\n"
          "q or Ctrl-C ends it; the run continues. It ends when the run, or every run of the list, has ended. If "
          "standard output is not a "
          "terminal, it prints one frame of 80 columns and ends. On a terminal whose cursor cannot be moved "
          "(TERM=dumb) it prints one line per step.",
      .groups =
          {{"Watching",
            {{"run", &settings.run, "RUN", "run directory, as given to train as --run, or a folder of runs", {}, true},
             {"interval", &settings.interval, "SECONDS", "time between two reads of the files"},
             {"once", &settings.once, "", "print one frame and end, for scripts"},
             {"follow", &settings.follow, "",
              "wait for a run that has not started, and keep watching after its end, as a requeued job "
              "continues it"},
             {"no-color", &settings.no_color, "", "no colours; the variable NO_COLOR does the same"},
             {"symbols",
              &settings.symbols,
              "",
              "characters for the curve and the bars; auto: Unicode if the locale is UTF-8",
              {"auto", "unicode", "ascii"}}}}},
      .examples =
          "causeway watch runs/first\ncauseway watch runs\nssh -t cluster causeway watch runs/first\ncauseway watch "
          "runs/first --once "
          ">> diary.txt"};
}

/// Shows the run until the user ends the command or the run ends.
class Watch {
 public:
  Watch(const WatchSettings& settings, View& view) : settings_(settings), view_(view) {
    const char* no_color = std::getenv("NO_COLOR");
    look_.unicode = settings.symbols == "unicode" || (settings.symbols == "auto" && locale_is_utf8());
    look_.colour = can_redraw() && !settings.no_color && (no_color == nullptr || *no_color == '\0');
  }

  void once() {
    look_ = {.width = 80, .height = 50, .colour = false, .unicode = look_.unicode};
    view_.poll(once_seconds);
    print(view_.frame(seconds_since_1970(), look_));
  }

  /// For a terminal whose cursor cannot be moved: prints a line when it has changed.
  void lines(const StopSignals& stop) {
    std::string before;
    while (true) {
      view_.poll(settings_.interval);
      look_.width = terminal_size().columns;
      const std::string line = view_.line(seconds_since_1970(), look_);
      if (line != before) print({line});
      before = line;
      if (ended() || !rest(settings_.interval, stop, [](double seconds) {
            std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
            return true;
          }))
        return;
    }
  }

  void screen(const StopSignals& stop) {
    std::vector<std::string> frame;
    {
      Screen terminal;
      while (true) {
        view_.poll(settings_.interval);
        const auto draw = [&] {
          const TerminalSize size = terminal_size();
          look_.width = size.columns;
          look_.height = size.rows;
          frame = view_.frame(seconds_since_1970(), look_);
          terminal.draw(frame);
        };
        draw();
        if (ended()) break;
        const bool go_on = rest(view_.reading() ? 0 : settings_.interval, stop, [&](double seconds) {
          const std::optional<char> key = terminal.key(seconds);
          const TerminalSize size = terminal_size();
          if (size.columns != look_.width || size.rows != look_.height) draw();
          return key != 'q' && key != 'Q';
        });
        if (!go_on) break;
      }
    }
    print(frame);  // leaves the last frame on the terminal
  }

 private:
  static constexpr double once_seconds = 60;

  static void print(const std::vector<std::string>& lines) {
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    print_answer(text);
  }

  bool ended() const { return view_.ended() && !settings_.follow; }

  /// Waits in short pieces, because a signal that another thread handles does not wake this one. False: stop.
  template <class Piece>
  bool rest(double seconds, const StopSignals& stop, const Piece& piece) {
    constexpr double longest = 0.1;
    do {
      if (stop.raised() || !piece(std::min(seconds, longest))) return false;
      seconds -= longest;
    } while (seconds > 0);
    return !stop.raised();
  }

  const WatchSettings& settings_;
  View& view_;
  Look look_;
};

/// A run, or a list of the runs in a folder. With --follow a folder that is nothing yet is taken for a run that starts.
std::unique_ptr<View> view_of(const WatchSettings& settings) {
  if (is_run(settings.run)) return std::make_unique<RunView>(settings.run);
  const bool waits = settings.follow && !settings.once;
  if (waits && (!std::filesystem::is_directory(settings.run) || runs_in(settings.run).empty()))
    return std::make_unique<RunView>(settings.run);
  require_runs_in(settings.run);
  return std::make_unique<RunListView>(settings.run);
}

ExitCode execute(const WatchSettings& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;
  require(!settings.run.empty(), "--run is missing: expected a run directory, or a folder of runs");
  require(settings.interval >= 0.05 && settings.interval <= 3600, "--interval is {}, expected 0.05 to 3600",
          settings.interval);
  const std::filesystem::file_type kind = kind_of(settings.run);
  const bool there = kind == std::filesystem::file_type::directory;
  require(there || kind == std::filesystem::file_type::not_found,
          "{}: is a file, expected the folder of a run or of several; causeway inspect shows a file", settings.run);
  require(there || (settings.follow && !settings.once), "{}: {}{}", settings.run, why_missing(settings.run, "folder"),
          settings.once ? "" : "; --follow waits for it");
  if (there) require_readable_folder(settings.run);
  const std::unique_ptr<View> view = view_of(settings);
  Watch watch(settings, *view);
  if (settings.once || ::isatty(STDOUT_FILENO) != 1) {
    watch.once();
    return ExitCode::ok;
  }
  const StopSignals stop({SIGINT, SIGTERM, SIGHUP, SIGQUIT});
  if (can_redraw())
    watch.screen(stop);
  else
    watch.lines(stop);
  return ExitCode::ok;
}

}  // namespace

Command watch_command() {
  return make_command<WatchSettings, declare, execute>("watch", "show the state of a run, live in a terminal");
}

}  // namespace causeway
