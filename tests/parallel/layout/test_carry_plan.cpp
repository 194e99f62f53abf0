#include "parallel/layout/carry_plan.hpp"

#include <gtest/gtest.h>

#include "parallel/strategy.hpp"
#include "tests/support/shards.hpp"

namespace causeway::test {
namespace {

TEST(CarryPlan, HasTheEdgesThatDocumentsCross) {
  for (const auto& [layout, segments] : random_packs(every_layout)) {
    const CarryPlan plan = plan_carry(layout, segments);
    ASSERT_EQ(std::ssize(plan.chunks), layout.chunk_count());
    for (int c = 0; c < layout.chunk_count(); ++c) {
      const auto& edge = plan.chunks[static_cast<std::size_t>(c)];
      const Range chunk = layout.chunk(c);
      bool from_left = false, to_right = false, one_document = false;
      for (std::int64_t s = 0; s < segments.count(); ++s) {
        const std::int64_t begin = segments.cu_seqlens()[static_cast<std::size_t>(s)],
                           end = segments.cu_seqlens()[static_cast<std::size_t>(s) + 1];
        from_left |= begin < chunk.begin && chunk.begin < end;
        to_right |= begin < chunk.end && chunk.end < end;
        one_document |= begin < chunk.begin && chunk.end < end;
      }
      EXPECT_EQ(edge.from_left, from_left);
      EXPECT_EQ(edge.to_right, to_right);
      EXPECT_EQ(edge.one_document, one_document) << "chunk " << c << " [" << chunk.begin << ", " << chunk.end << ")";
      if (c > 0) {
        EXPECT_EQ(edge.from_left, plan.chunks[static_cast<std::size_t>(c) - 1].to_right);
      }
    }
  }
}

}  // namespace
}  // namespace causeway::test
