#pragma once

#include <exception>

#include "kernels/core/error.hpp"

namespace causeway {

/// An exception of any type as an Error, with an exit code and a message. What std::filesystem was refused is
/// Error(io), an exception that Causeway does not know Error(internal).
Error error_of(const std::exception& exception);

}  // namespace causeway
