#pragma once

#include <string>

#include "kernels/core/error.hpp"
#include "src/convert/yaml_keys.hpp"

namespace causeway::testing {

/// Whether this build reads YAML.
inline bool has_yaml() {
  try {
    YamlKeys("a: 1", "");
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace causeway::testing
