#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

/// `word` as a POSIX shell reads it back: as it is where every character is harmless, else in quotes. Bytes that cannot
/// be seen or pasted (control characters, bytes that are not UTF-8, changes of the writing direction) are written as
/// $'\ooo', which bash, zsh and ksh read. The result is one line.
std::string shell_quoted(std::string_view word);

/// The words of a launcher's command line before those of the program: {"mpirun", "-n", "4"}. `command`: all words of
/// it; `program`: the first word of the program's own command line. A file that --hostfile and the like name is made
/// absolute, relative to `folder`, where the launcher was started. Empty where `command` is not mpirun's or mpiexec's,
/// starts several programs, or does not contain `program`.
std::vector<std::string> launcher_prefix(std::span<const std::string> command, const std::string& program,
                                         const std::string& folder);

/// The command that resumes `run` from any folder: the launcher as this job was started with it, this program, and the
/// run's config.ini. `processes`: the ranks are processes of mpirun or srun, else threads. Call it on the first rank.
std::string resume_command(const std::string& run, int ranks, bool processes);

}  // namespace causeway
