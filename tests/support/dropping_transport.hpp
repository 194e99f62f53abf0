#pragma once

#include <memory>

#include "parallel/transport/communicator.hpp"

/// Ranks that receive zeros from each other: it shows that a result depends on the data that ranks exchange, without a
/// hook in the code under test.
///
///     on_ranks(4, [](Communicator& world) {
///       Mesh mesh(groups_receiving_zeros(world), 1, 4);   // mesh.world works, mesh.context receives zeros
///       Runtime runtime{.stream = Stream(), .mesh = std::move(mesh)};
///       …train…                                // halos and carries are zero with either schedule; sums of losses
///                                              // and gradients are right
///     });
namespace causeway::test {

/// A communicator over the ranks of `world`. It works as usual, but groups that are split off it (a Mesh's context)
/// receive zeros instead of the bytes that other ranks send in an exchange or all_gather. Reductions, broadcasts,
/// barriers and host scalars work in the groups too. Collective.
Communicator groups_receiving_zeros(Communicator& world);

}  // namespace causeway::test
