#pragma once

#include <filesystem>
#include <string>

/// What has a name. An answer is "this" or "nothing"; where the system gives none (no permission, a server that does
/// not answer), these functions throw Error(io): such a file must not be taken for a missing one.
namespace causeway {

/// Whether an errno of a look-up says that nothing has the name.
bool means_missing(int error);
/// Whether a file, folder or link has that name; also true for a broken link.
bool is_there(const std::string& path);
/// What the name means, links followed; file_type::not_found for nothing.
std::filesystem::file_type kind_of(const std::string& path);

}  // namespace causeway
