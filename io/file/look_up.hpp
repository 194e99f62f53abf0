#pragma once

#include <filesystem>
#include <string>

/// Looks up what has a name: something, or nothing. Where the system gives no answer (no permission, a name that is too
/// long, a server that does not respond), these functions throw Error(io): such a file must not be taken for a missing
/// one. The rule for all commands: what the user names and does not exist, or is of the wrong kind,
/// is Error(usage); what the system refuses is Error(io).
namespace causeway {

/// Whether an errno of a look-up says that nothing has the name.
bool means_missing(int error);
/// Whether a file, folder or link has that name; also true for a broken link.
bool is_there(const std::string& path);
/// What the name means, links followed; file_type::not_found for nothing.
std::filesystem::file_type kind_of(const std::string& path);
/// Why kind_of() found nothing, for messages: "no such WHAT", or the system's words for a circle of links.
std::string why_missing(const std::string& path, const char* what = "file");
/// The same as kind_of(); throws Error(usage) for nothing and for a folder.
std::filesystem::file_type require_file(const std::string& path);
/// Throws Error(io) for a folder whose files may not be listed or opened.
void require_readable_folder(const std::string& path);
/// Throws Error(io) for a file that is there and cannot be opened for reading: it must not count as missing.
void require_readable_if_there(const std::string& path);

}  // namespace causeway
