/// Decoding: a document that is computed in parts (prefill, then tokens one by one) gives the logits of one pass over
/// it.

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
  all.push_back({"published", small_published_model()});
  ModelOptions one_tap = small_model_of({"se", "mr", "mamba"});  // convolutions cache no rows
  one_tap.se_taps = one_tap.mr_taps = one_tap.conv_taps = 1;
  all.push_back({"one_tap", one_tap});
  return all;
}

/// A model on one rank, and the tokens of one document.
class Decoder {
 public:
  Decoder(Communicator& world, const ModelOptions& shape, std::int64_t tokens)
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

  /// Appends tokens [begin, end) in one call. Returns the log-probabilities of the vocabulary after each of the last
  /// `asked` of them (0: after all).
  std::vector<double> append(std::int64_t begin, std::int64_t end, DocumentState& state, std::int64_t asked = 0) {
    const Tensor logits(runtime_.stream, DType::f64, {asked > 0 ? asked : end - begin, vocabulary()});
    model_.extend(runtime_.stream, ids_.view().slice_rows(begin, end - begin), state, logits);
    return log_probabilities(logits);
  }

  std::vector<double> log_probabilities(TensorView logits) const {
    std::vector<double> values = values_of(logits);
    for (auto row = values.begin(); row != values.end(); row += vocabulary()) {
      double sum = 0;
      for (std::int64_t v = 0; v < vocabulary(); ++v) sum += std::exp(row[v]);
      for (std::int64_t v = 0; v < vocabulary(); ++v) row[v] -= std::log(sum);
    }
    return values;
  }

  /// The last logits of append() for several documents in one call: tokens [begin, end) of `ids` are appended to each.
  struct Part {
    DocumentState* state;
    std::int64_t begin, end;
  };
  std::vector<double> append_to_each(const std::vector<Part>& parts) {
    std::vector<std::int32_t> ids;
    std::vector<Model::Extension> extensions;
    for (const Part& part : parts) {
      const auto all = ids_.view().as<std::int32_t>();
      ids.insert(ids.end(), all.begin() + part.begin, all.begin() + part.end);
      extensions.push_back({*part.state, part.end - part.begin});
    }
    const Tensor logits(runtime_.stream, DType::f64, {std::ssize(parts), vocabulary()});
    model_.extend(runtime_.stream, on_device<std::int32_t>(runtime_.stream, ids), extensions, logits);
    return log_probabilities(logits);
  }
  DocumentState copy(const DocumentState& state) const { return copy_of(runtime_.stream, state); }

  /// The same for the whole document by a pass as in training: its losses when each label is v give the column of v.
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

class Decoding : public testing::TestWithParam<Subject> {};
INSTANTIATE_TEST_SUITE_P(Layers, Decoding, testing::ValuesIn(subjects()),
                         [](const auto& subject) { return subject.param.name; });

template <class T>
std::vector<T> operator+(std::vector<T> a, const std::vector<T>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_P(Decoding, InAnyPartsEqualsOnePass) {
  using Cuts = std::vector<std::int64_t>;
  on_ranks(1, [](Communicator& world) {
    Decoder decoder(world, GetParam().shape, 150);
    const std::vector<double> expected = decoder.by_training_pass();
    for (const Cuts& cuts :
         {Cuts{1}, Cuts{2}, Cuts{8}, Cuts{63}, Cuts{64}, Cuts{65}, Cuts{149}, Cuts{2, 4, 7, 9}, Cuts{60, 63, 129}}) {
      DocumentState document;
      std::vector<double> found;
      std::int64_t begin = 0;
      for (const std::int64_t end : cuts + Cuts{150}) {
        found = found + decoder.append(begin, end, document);
        begin = end;
      }
      EXPECT_LT(relative_error(found, expected), 1e-12) << testing::PrintToString(cuts);
      EXPECT_EQ(document.tokens, 150);
    }
  });
}

TEST_P(Decoding, TokenByTokenAfterAPromptEqualsOnePass) {
  on_ranks(1, [](Communicator& world) {
    Decoder decoder(world, GetParam().shape, 300);  // more than the first capacity of the key/value cache
    const std::vector<double> expected = decoder.by_training_pass();
    for (const std::int64_t prompt : {1, 37}) {
      DocumentState document;
      std::vector<double> found = decoder.append(0, prompt, document);
      for (std::int64_t t = prompt; t < 300; ++t) found = found + decoder.append(t, t + 1, document);
      EXPECT_LT(relative_error(found, expected), 1e-12) << prompt;
    }
  });
}

TEST_P(Decoding, SeveralDocumentsInOneCallEqualOneAtATime) {
  on_ranks(1, [](Communicator& world) {
    Decoder decoder(world, GetParam().shape, 120);
    constexpr std::size_t count = 3;
    const std::int64_t starts[count] = {0, 70, 31}, prompts[count] = {1, 40, 7};  // documents overlap in the ids
    DocumentState alone[count], together[count];
    std::vector<Decoder::Part> parts;
    std::vector<double> expected;
    for (std::size_t d = 0; d < count; ++d) {
      parts.push_back({&together[d], starts[d], starts[d] + prompts[d]});
      expected = expected + decoder.append(parts[d].begin, parts[d].end, alone[d], 1);
    }
    EXPECT_LT(relative_error(decoder.append_to_each(parts), expected), 1e-12);
    DocumentState other = decoder.copy(together[1]);  // continues document 1 in another way, and changes nothing of it
    decoder.append(0, 9, other);
    for (int step = 0; step < 5; ++step) {
      if (step == 3) parts.erase(parts.begin());  // a document that has ended
      expected.clear();
      for (Decoder::Part& part : parts) {
        part = {part.state, part.end, part.end + 1 + step % 2};
        expected = expected + decoder.append(part.begin, part.end, alone[part.state - together], 1);
      }
      EXPECT_LT(relative_error(decoder.append_to_each(parts), expected), 1e-12) << step;
    }
  });
}

TEST_P(Decoding, WritesOnlyTheLastLogitsIfNoMoreAreAskedFor) {
  on_ranks(1, [](Communicator& world) {
    Decoder decoder(world, GetParam().shape, 20);
    DocumentState all, last;
    const std::vector<double> every = decoder.append(0, 20, all), one = decoder.append(0, 20, last, 1);
    EXPECT_LT(relative_error(one, {every.end() - std::ssize(one), every.end()}), 1e-14);
  });
}

TEST_P(Decoding, TakesConstantMemoryAToken) {
  on_ranks(1, [](Communicator& world) {
    constexpr std::int64_t tokens = 600;
    Decoder decoder(world, GetParam().shape, tokens);
    DocumentState document;
    std::set<std::int64_t> live, peak;
    for (std::int64_t t = 0; t < tokens; ++t) {
      decoder.append(t, t + 1, document);
      live.insert(decoder.memory().live_bytes());
      if (t > 20) peak.insert(decoder.memory().peak_bytes());  // from here on all cached rows are in use
    }
    if (GetParam().shape.uses("attention")) {
      EXPECT_EQ(live.size(), 3u);  // the key/value cache has a capacity of 256, 512 and 1,024 tokens
    } else {
      EXPECT_EQ(live.size(), 1u);
      EXPECT_EQ(peak.size(), 1u);
    }
  });
}

}  // namespace
}  // namespace causeway::test
