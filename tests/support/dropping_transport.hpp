#pragma once

#include <memory>

#include "parallel/transport/communicator.hpp"

/// Ranks that cannot hear each other: shows that a result depends on what crosses the ranks, without a hook in the code
/// under test.
///
///     on_ranks(4, [](Communicator& world) {
///       Mesh mesh(deaf_groups(world), 1, 4);   // mesh.world works, mesh.context receives zeros
///       Runtime runtime{.stream = Stream(), .mesh = std::move(mesh)};
///       …train…                                // halos and carries, by either schedule, are zero; sums of losses and
///       gradients are right
///     });
namespace causeway::test {

/// A communicator over the ranks of `world` that works as usual, but whose split-off groups (a Mesh's context) receive
/// zeros in place of every exchange's and all_gather's bytes from other ranks. Reductions, broadcasts, barriers and
/// host scalars work in the groups too. Collective.
Communicator deaf_groups(Communicator& world);

}  // namespace causeway::test
