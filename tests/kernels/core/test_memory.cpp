#include "kernels/core/memory.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "kernels/core/error.hpp"
#include "kernels/core/random.hpp"

namespace causeway::test {
namespace {

TEST(MemoryPool, ReusesAReleasedBlockForTheNextRequestOfItsSize) {
  MemoryPool pool(Device::cpu);
  void* const first = pool.allocate(1000);
  pool.release(first, 1000);
  EXPECT_EQ(pool.allocate(1000), first);
  pool.release(first, 1000);
}

TEST(MemoryPool, BlocksAreAlignedAndDoNotOverlap) {
  MemoryPool pool(Device::cpu);
  const RandomStream draws(1, 0);
  std::vector<std::pair<std::byte*, std::int64_t>> blocks;
  for (std::uint64_t i = 0; i < 300; ++i) {
    const auto bytes = static_cast<std::int64_t>(1 + draws.below(i, 5000));
    auto* block = static_cast<std::byte*>(pool.allocate(bytes));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 64, 0u);
    std::memset(block, static_cast<int>(i), static_cast<std::size_t>(bytes));
    blocks.emplace_back(block, bytes);
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto [block, bytes] = blocks[i];
    EXPECT_TRUE(std::all_of(block, block + bytes, [&](std::byte b) { return b == static_cast<std::byte>(i); }));
    pool.release(block, bytes);
  }
}

TEST(MemoryPool, CountsLiveAndPeakBytes) {
  MemoryPool pool(Device::cpu);
  void* const a = pool.allocate(4096);
  void* const b = pool.allocate(8192);
  EXPECT_EQ(pool.live_bytes(), 12288);
  pool.release(b, 8192);
  EXPECT_EQ(pool.live_bytes(), 4096);
  EXPECT_EQ(pool.peak_bytes(), 12288);
  pool.reset_peak();
  EXPECT_EQ(pool.peak_bytes(), 4096);
  pool.release(a, 4096);
  EXPECT_EQ(pool.live_bytes(), 0);
}

TEST(MemoryPool, ZeroBytesGiveANullPointer) {
  MemoryPool pool(Device::cpu);
  EXPECT_EQ(pool.allocate(0), nullptr);
  pool.release(nullptr, 0);
  EXPECT_EQ(pool.live_bytes(), 0);
}

TEST(MemoryPool, RefusesMoreMemoryThanTheMachineHas) {
  MemoryPool pool(Device::cpu);
  EXPECT_THROW(static_cast<void>(pool.allocate(std::int64_t{1} << 60)), Error);
  EXPECT_EQ(pool.live_bytes(), 0);
}

// This makes the reported peak memory of a rank meaningful: released blocks do not accumulate in addition to live ones.
TEST(MemoryPool, LiveAndCachedBytesStayBelowThePeakPlusOneRequest) {
  MemoryPool pool(Device::cpu);
  const RandomStream draws(2, 0);
  std::vector<std::pair<void*, std::int64_t>> live;
  std::uint64_t index = 0;
  for (int step = 0; step < 3000; ++step) {
    if (live.size() < 20 && draws.below(index++, 2) == 0) {
      const auto bytes = static_cast<std::int64_t>(256 * (1 + draws.below(index++, 500)));
      const std::int64_t peak_before = pool.peak_bytes();
      live.emplace_back(pool.allocate(bytes), bytes);
      EXPECT_LE(pool.live_bytes() + pool.cached_bytes(), std::max(peak_before, pool.live_bytes()) + bytes);
    } else if (!live.empty()) {
      const std::size_t which = draws.below(index++, live.size());
      pool.release(live[which].first, live[which].second);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(which));
    }
  }
  for (const auto& [block, bytes] : live) pool.release(block, bytes);
}

TEST(MemoryPool, ServesSeveralThreads) {
  MemoryPool pool(Device::cpu);
  std::vector<std::thread> threads;
  std::vector<int> corrupted(4, 0);
  for (int id = 0; id < 4; ++id)
    threads.emplace_back([&pool, &corrupted, id] {
      for (int i = 0; i < 500; ++i) {
        const std::int64_t bytes = 256 * (1 + i % 7);
        auto* block = static_cast<unsigned char*>(pool.allocate(bytes));
        std::memset(block, id, static_cast<std::size_t>(bytes));
        corrupted[static_cast<std::size_t>(id)] += std::count(block, block + bytes, id) != bytes;
        pool.release(block, bytes);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(corrupted, std::vector<int>(4, 0));
  EXPECT_EQ(pool.live_bytes(), 0);
}

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * sysconf(_SC_PAGE_SIZE);
}

TEST(MemoryPool, FreedMemoryReturnsToTheSystem) {
  // After a block of this size is freed, glibc keeps all smaller freed blocks (its dynamic mmap threshold).
  void* volatile freed = std::malloc(24 << 20);
  std::free(freed);
  constexpr std::int64_t count = 16, bytes = 4 << 20;
  const std::int64_t before = resident_bytes();
  void* volatile after_the_blocks = nullptr;
  {
    MemoryPool pool(Device::cpu);
    std::vector<void*> blocks;
    for (std::int64_t i = 0; i < count; ++i) {
      blocks.push_back(pool.allocate(bytes));
      std::memset(blocks.back(), 1, bytes);
    }
    EXPECT_GE(resident_bytes() - before, count * bytes * 7 / 8);
    after_the_blocks = std::malloc(100000);
    for (void* const block : blocks) pool.release(block, bytes);
  }
  EXPECT_LT(resident_bytes() - before, count * bytes / 8);
  std::free(after_the_blocks);
}
#endif

}  // namespace
}  // namespace causeway::test
