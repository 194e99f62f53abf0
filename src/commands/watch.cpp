#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "src/cli/command.hpp"
#include "src/cli/signals.hpp"
#include "src/run/utc_text.hpp"
#include "src/watch/frame.hpp"
#include "src/watch/run_reader.hpp"
#include "src/watch/terminal.hpp"

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
          "q or Ctrl-C ends it; the run continues. It ends when the run has ended. If standard output is not a "
          "terminal, it prints one frame of 80 columns and ends. On a terminal whose cursor cannot be moved "
          "(TERM=dumb) it prints one line per step.",
      .groups = {{"Watching",
                  {{"run", &settings.run, "RUN", "run directory, as given to train as --run", {}, true},
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
          "causeway watch runs/first\nssh -t cluster causeway watch runs/first\ncauseway watch runs/first --once "
          ">> diary.txt"};
}

/// Shows the run until the user ends the command or the run ends.
class Watch {
 public:
  explicit Watch(const WatchSettings& settings) : settings_(settings), reader_(settings.run) {
    const char* no_color = std::getenv("NO_COLOR");
    look_.unicode = settings.symbols == "unicode" || (settings.symbols == "auto" && locale_is_utf8());
    look_.colour = can_redraw() && !settings.no_color && (no_color == nullptr || *no_color == '\0');
  }

  void once() {
    look_ = {.width = 80, .height = 50, .colour = false, .unicode = look_.unicode};
    RunState run = reader_.poll(once_seconds);
    print(build_frame(run, seconds_since_1970(), look_));
  }

  /// For a terminal whose cursor cannot be moved: prints a line when it has changed.
  void lines(const StopSignals& stop) {
    std::string before;
    while (true) {
      const RunState run = reader_.poll(settings_.interval);
      look_.width = terminal_size().columns;
      const std::string line = status_line(run, seconds_since_1970(), look_);
      if (line != before) print({line});
      before = line;
      if (ended(run) || !rest(settings_.interval, stop, [](double seconds) {
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
        const RunState run = reader_.poll(settings_.interval);
        const auto draw = [&] {
          const TerminalSize size = terminal_size();
          look_.width = size.columns;
          look_.height = size.rows;
          frame = build_frame(run, seconds_since_1970(), look_);
          terminal.draw(frame);
        };
        draw();
        if (ended(run)) break;
        const bool go_on = rest(run.unread_bytes > 0 ? 0 : settings_.interval, stop, [&](double seconds) {
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

  bool ended(const RunState& run) const { return run.end && !settings_.follow && run.unread_bytes == 0; }

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
  RunReader reader_;
  Look look_;
};

ExitCode execute(const WatchSettings& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;
  require(!settings.run.empty(), "no run given: expected its directory");
  require(settings.interval >= 0.05 && settings.interval <= 3600, "--interval is {}, expected 0.05 to 3600",
          settings.interval);
  std::error_code ignored;
  const bool there = std::filesystem::is_directory(settings.run, ignored);
  require(there || (settings.follow && !settings.once), "{}: no such folder{}", settings.run,
          settings.once ? "" : "; --follow waits for it");
  Watch watch(settings);
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
