#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint.hpp"
#include "io/checkpoint/checkpoint_folders.hpp"
#include "io/checkpoint/checkpoint_writer.hpp"

/// Shared by the tests of checkpoints: writes and checks a small checkpoint with tensors of every kind.
namespace causeway::test {

/// Tensors of one to four axes and every type.
struct Whole {
  std::string name;
  Shape shape;
  DType dtype;
};
inline const std::vector<Whole> tensors{{"parameters/matrix", {37, 5}, DType::f32},
                                        {"parameters/conv", {6, 1, 4}, DType::bf16},
                                        {"parameters/four", {3, 2, 5, 2}, DType::f64},
                                        {"optimizer/master/vector", {101}, DType::f64},
                                        {"optimizer/master/one", {1}, DType::f32}};

/// Element i of tensor n at a step, before it is rounded to the tensor's type.
inline double value_of(std::size_t n, std::int64_t i, std::int64_t step) {
  return 100.0 * static_cast<double>(n) + static_cast<double>(i % 64) / 4 + static_cast<double>(step);
}

inline std::vector<std::byte> elements(std::size_t n, Range range, std::int64_t step) {
  std::vector<std::byte> bytes;
  dispatch(tensors[n].dtype, [&]<class T>() {
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const T value(static_cast<Accumulator<T>>(value_of(n, i, step)));
      const auto* const raw = reinterpret_cast<const std::byte*>(&value);
      bytes.insert(bytes.end(), raw, raw + sizeof value);
    }
  });
  return bytes;
}

/// Rank r of R writes elements ⌊rn/R⌋ … ⌊(r+1)n/R⌋ of each tensor; only the last rank writes the last tensor.
struct Part {
  CheckpointContent content;
  std::vector<std::vector<std::byte>> data;

  Part(std::int64_t step, const Communicator& ranks)
      : content{.attributes = {{"width", std::int64_t{7}}, {"layers", std::string("mamba*2")}},
                .state = {{"step", step}, {"loss", 1.5}},
                .tensors = {}} {
    for (std::size_t n = 0; n < tensors.size(); ++n) {
      const std::int64_t size = tensors[n].shape.size();
      const Range owned{ranks.rank() * size / ranks.size(), (ranks.rank() + 1) * size / ranks.size()};
      data.push_back(elements(n, owned, step));
      content.tensors.push_back({tensors[n].name, tensors[n].shape, tensors[n].dtype, owned, data.back().data()});
    }
  }
};

inline void write(const std::string& run, std::int64_t step, Communicator& ranks) {
  const Part part(step, ranks);
  write_checkpoint(run, step, part.content, ranks, Stream());
}

/// Reads every tensor in several ranges, and compares.
inline void expect_whole(const Checkpoint& checkpoint) {
  const std::int64_t step = checkpoint.state().integer_attribute("step");
  EXPECT_EQ(checkpoint.integer("width"), 7);
  EXPECT_EQ(checkpoint.text("layers"), "mamba*2");
  for (std::size_t n = 0; n < tensors.size(); ++n) {
    const std::int64_t size = tensors[n].shape.size();
    for (const Range range :
         {Range{0, size}, Range{0, size / 2}, Range{size / 3, size}, Range{size / 3, size / 2}, Range{size, size}}) {
      std::vector<std::byte> found(static_cast<std::size_t>(range.size() * size_of(tensors[n].dtype)));
      checkpoint.read(tensors[n].name, tensors[n].shape, tensors[n].dtype, range, found.data());
      EXPECT_TRUE(found == elements(n, range, step))
          << tensors[n].name << " [" << range.begin << ", " << range.end << ")";
    }
  }
}

inline std::string latest_of(const std::string& run) {
  return std::filesystem::path(latest_checkpoint(run).value()).filename();
}

inline std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

inline ExitCode code_of(const std::function<void()>& work, const std::string& named) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(named), std::string::npos)
        << named << " is not named in: " << error.what();
    return error.code();
  }
  return ExitCode::ok;
}

}  // namespace causeway::test
