#pragma once

namespace causeway {

/// The direction of a recurrence over tokens: a state runs from left to right, its adjoint from right to left.
enum class ScanDirection { left_to_right, right_to_left };

}  // namespace causeway
