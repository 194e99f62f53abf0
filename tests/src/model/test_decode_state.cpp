/// A document that grows: prefill and decoding give what one pass over the whole document gives.

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "src/model/model_options.hpp"
#include "tests/src/model_support.hpp"

namespace causeway::test {
namespace {

struct Subject {
  std::string name;
  ModelOptions shape;
};

/// A model of each layer twice, and of all of them with MLPs.
std::vector<Subject> subjects() {
  std::vector<Subject> all;
  for (const Layer& layer : layers()) {
    const std::string name(layer.name);
    ModelOptions shape = small_model_of({name, name});
    shape.ffn = 0;
    all.push_back({name, shape});
  }
  all.push_back({"mixed", small_mixed_model()});
  ModelOptions one_tap = small_model_of({"se", "mr", "mamba"});  // nothing to remember of the past
  one_tap.se_taps = one_tap.mr_taps = one_tap.conv_taps = 1;
  all.push_back({"one_tap", one_tap});
  return all;
}

/// One model on one rank, and one document.
class Author {
 public:
  Author(Communicator& world, const ModelOptions& shape, std::int64_t tokens)
      : runtime_(one_rank_runtime(world.split(0, 0))),
        model_({.shape = shape, .dtype = DType::f64}),
        ids_(runtime_.stream, DType::i32, {tokens}) {
    model_.parameters().allocate(runtime_.stream, 1);
    excite(model_.parameters());
    const RandomStream random(3, 4);
    for (std::int64_t t = 0; t < tokens; ++t)
      ids_.view().as<std::int32_t>()[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(
          random.below(static_cast<std::uint64_t>(t), static_cast<std::uint64_t>(vocabulary())));
  }

  /// Tokens [begin, end) appended in one run: the logarithm of every token's probability after each of the last `asked`
  /// (0: of all).
  std::vector<double> append(std::int64_t begin, std::int64_t end, GrowingDocument& so_far, std::int64_t asked = 0) {
    const Tensor logits(runtime_.stream, DType::f64, {asked > 0 ? asked : end - begin, vocabulary()});
    model_.extend(runtime_.stream, ids_.view().slice_rows(begin, end - begin), so_far, logits);
    std::vector<double> values = values_of(logits);
    for (auto row = values.begin(); row != values.end(); row += vocabulary()) {
      double sum = 0;
      for (std::int64_t v = 0; v < vocabulary(); ++v) sum += std::exp(row[v]);
      for (std::int64_t v = 0; v < vocabulary(); ++v) row[v] -= std::log(sum);
    }
    return values;
  }

  /// The same of the whole document by the pass that training makes: its losses where every token is followed by v.
  std::vector<double> by_training_pass() {
    const std::int64_t tokens = ids_.view().rows();
    const Sharding sharding(ShardLayout(tokens, 1, Layout::contiguous), Segments::one_document(tokens), 0);
    const Tensor labels(runtime_.stream, DType::i32, {tokens}), losses(runtime_.stream, DType::f64, {tokens});
    std::vector<double> values(static_cast<std::size_t>(tokens * vocabulary()));
    for (std::int64_t v = 0; v < vocabulary(); ++v) {
      for (std::int32_t& label : labels.view().as<std::int32_t>()) label = static_cast<std::int32_t>(v);
      model_.evaluate({runtime_, sharding}, {ids_, labels}, losses);
      const std::vector<double> loss = values_of(losses);
      for (std::int64_t t = 0; t < tokens; ++t)
        values[static_cast<std::size_t>(t * vocabulary() + v)] = -loss[static_cast<std::size_t>(t)];
    }
    return values;
  }

  std::int64_t vocabulary() const { return model_.options().shape.vocabulary; }
  const MemoryPool& memory() const { return runtime_.stream.memory(); }

 private:
  Runtime runtime_;
  Model model_;
  Tensor ids_;
};

class Growing : public testing::TestWithParam<Subject> {};
INSTANTIATE_TEST_SUITE_P(Layers, Growing, testing::ValuesIn(subjects()),
                         [](const auto& subject) { return subject.param.name; });

template <class T>
std::vector<T> operator+(std::vector<T> a, const std::vector<T>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_P(Growing, InAnyPiecesGivesWhatOnePassGives) {
  using Cuts = std::vector<std::int64_t>;
  on_ranks(1, [](Communicator& world) {
    Author author(world, GetParam().shape, 150);
    const std::vector<double> expected = author.by_training_pass();
    for (const Cuts& cuts :
         {Cuts{1}, Cuts{2}, Cuts{8}, Cuts{63}, Cuts{64}, Cuts{65}, Cuts{149}, Cuts{2, 4, 7, 9}, Cuts{60, 63, 129}}) {
      GrowingDocument document;
      std::vector<double> found;
      std::int64_t begin = 0;
      for (const std::int64_t end : cuts + Cuts{150}) {
        found = found + author.append(begin, end, document);
        begin = end;
      }
      EXPECT_LT(relative_error(found, expected), 1e-12) << testing::PrintToString(cuts);
      EXPECT_EQ(document.tokens, 150);
    }
  });
}

TEST_P(Growing, TokenByTokenAfterAPromptGivesWhatOnePassGives) {
  on_ranks(1, [](Communicator& world) {
    Author author(world, GetParam().shape, 300);  // past the first room for keys and values
    const std::vector<double> expected = author.by_training_pass();
    for (const std::int64_t prompt : {1, 37}) {
      GrowingDocument document;
      std::vector<double> found = author.append(0, prompt, document);
      for (std::int64_t t = prompt; t < 300; ++t) found = found + author.append(t, t + 1, document);
      EXPECT_LT(relative_error(found, expected), 1e-12) << prompt;
    }
  });
}

TEST_P(Growing, TellsTheLastLogitsAloneWhereNoMoreAreAskedFor) {
  on_ranks(1, [](Communicator& world) {
    Author author(world, GetParam().shape, 20);
    GrowingDocument all, last;
    const std::vector<double> every = author.append(0, 20, all), one = author.append(0, 20, last, 1);
    EXPECT_LT(relative_error(one, {every.end() - std::ssize(one), every.end()}), 1e-14);
  });
}

TEST_P(Growing, TakesConstantMemoryAToken) {
  on_ranks(1, [](Communicator& world) {
    constexpr std::int64_t tokens = 600;
    Author author(world, GetParam().shape, tokens);
    GrowingDocument document;
    std::set<std::int64_t> live, peak;
    for (std::int64_t t = 0; t < tokens; ++t) {
      author.append(t, t + 1, document);
      live.insert(author.memory().live_bytes());
      if (t > 20) peak.insert(author.memory().peak_bytes());  // every filter is full
    }
    if (GetParam().shape.uses("attention")) {
      EXPECT_EQ(live.size(), 3u);  // keys and values: room for 256, 512, 1,024
    } else {
      EXPECT_EQ(live.size(), 1u);
      EXPECT_EQ(peak.size(), 1u);
    }
  });
}

}  // namespace
}  // namespace causeway::test
