/// How far gradients in bf16 and with `--fp8` are from those in f64, tensor by tensor. The table of
/// src/model/dense/README.md is what this test prints with CAUSEWAY_TEST_PRINT set.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "tests/src/model_support.hpp"

namespace causeway::test {
namespace {

constexpr Fp8Level levels[] = {Fp8Level::off, Fp8Level::projections, Fp8Level::all};

/// Sums of squares: of the differences from f64, for each level, and of the gradients in f64.
struct Squares {
  double difference[3] = {}, exact = 0;
  double error(int level) const { return std::sqrt(difference[level] / exact); }
};

/// "mixer.in_proj" of "backbone.layers.3.mixer.in_proj.weight": tensors of all blocks count together.
std::string kind_of(const std::string& name) {
  std::string kind;
  for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
    end = name.find('.', begin);
    const std::string part = name.substr(begin, end - begin);
    if (part == "backbone" || part == "layers" || part == "weight" || std::isdigit(part[0]) != 0) continue;
    kind += (kind.empty() ? "" : ".") + part;
  }
  return kind;
}

TEST(Fp8Errors, OfGradientsAreBoundedTensorByTensor) {
  for (const char* layers : {"se mr li attention", "mamba*4"}) {
    ModelOptions shape = small_model_of(parse_layers(layers));
    shape.width = 64;
    shape.heads = shape.filter_groups = 4;
    shape.state = 8;
    shape.ffn = std::string(layers) == "mamba*4" ? 0 : 160;
    const std::vector<WholePack> packs{random_pack(Segments({0, 100, 900, 1024}), 11, 3)};
    const PassResult exact = run_pass({.shape = shape, .dtype = DType::f64}, packs, {});
    if (IsSkipped()) return;
    std::map<std::string, Squares> tensors;
    Squares all;
    for (int level = 0; level < 3; ++level) {
      const PassResult found = run_pass({.shape = shape, .dtype = DType::bf16, .fp8 = levels[level]}, packs, {});
      if (IsSkipped()) return;
      for (const auto& [name, gradient] : exact.gradients) {
        Squares& of = tensors[kind_of(name)];
        for (std::size_t i = 0; i < gradient.size(); ++i) {
          const double difference = std::pow(gradient[i] - found.gradients.at(name)[i], 2);
          of.difference[level] += difference;
          all.difference[level] += difference;
          if (level > 0) continue;
          of.exact += std::pow(gradient[i], 2);
          all.exact += std::pow(gradient[i], 2);
        }
      }
    }
    const bool prints = std::getenv("CAUSEWAY_TEST_PRINT") != nullptr;
    if (prints) fmt::print("{}, all: {:.4f} {:.4f} {:.4f}\n", layers, all.error(0), all.error(1), all.error(2));
    for (const auto& [kind, of] : tensors) {
      if (prints) fmt::print("| {} | {:.4f} | {:.4f} | {:.4f} |\n", kind, of.error(0), of.error(1), of.error(2));
      EXPECT_LT(of.error(0), 0.1) << kind;
      EXPECT_LT(of.error(1), 0.3) << kind;
      EXPECT_LT(of.error(2), 0.4) << kind;
    }
    EXPECT_LT(all.error(0), 0.03);
    EXPECT_LT(all.error(1), 0.15);
    EXPECT_LT(all.error(2), 0.25);
  }
}

}  // namespace
}  // namespace causeway::test
