#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <set>

#include "tests/src/model_support.hpp"

namespace causeway::test {
namespace {

const Model::Options f64_model{.shape = small_mixed_model(), .dtype = DType::f64};

/// Documents of 1, 2, 9, 4 and 30 tokens: some shorter than a convolution's filter, one longer than a shard.
WholePack awkward_pack() { return random_pack(Segments({0, 1, 3, 12, 16, 46}), 11, 3); }

void expect_gradients_near(const PassResult& found, const PassResult& expected, double tolerance) {
  ASSERT_EQ(found.gradients.size(), expected.gradients.size());
  for (const auto& [name, gradient] : expected.gradients)
    EXPECT_LT(relative_error(found.gradients.at(name), gradient), tolerance) << name;
}

/// Every strategy on every number of ranks, with alternating schedules.
std::vector<Cut> every_cut() {
  std::vector<Cut> cuts;
  for (const int ranks : {1, 2, 3, 4, 7})
    for (const Layout layout : {Layout::contiguous, Layout::zigzag})
      for (int turn = 0; turn < strategy_turns(); ++turn)
        cuts.push_back({ranks, layout, every_schedule[static_cast<std::size_t>(turn) % std::size(every_schedule)],
                        strategies_in_turn(turn, layout)});
  return cuts;
}

class EveryCut : public testing::TestWithParam<Cut> {};
INSTANTIATE_TEST_SUITE_P(Model, EveryCut, testing::ValuesIn(every_cut()), [](const auto& cut) {
  return fmt::format("{}ranks_{}_{}", cut.param.ranks, name_of(cut.param.layout), cut.index);
});

TEST_P(EveryCut, LossesAndGradientsEqualThoseOfOneRank) {
  const std::vector<WholePack> packs{awkward_pack()};
  for (const ModelOptions& shape : {small_mixed_model(), small_published_model()}) {
    const Model::Options options{.shape = shape, .dtype = DType::f64};
    const PassResult whole = run_pass(options, packs, {}, 7, excite),
                     cut = run_pass(options, packs, GetParam(), 7, excite);
    if (IsSkipped()) return;
    EXPECT_NEAR(cut.loss / whole.loss, 1, 1e-12);
    EXPECT_LT(relative_error(cut.token_losses, whole.token_losses), 1e-12);
    expect_gradients_near(cut, whole, 1e-10);
  }
}

TEST_P(EveryCut, F32GradientsAreWithin1e5OfThoseOfOneRank) {
  ModelOptions shape = small_mixed_model();
  shape.vocabulary = 32;
  shape.mr_taps = 32;
  const std::vector<WholePack> packs{random_pack(Segments({0, 200, 210, 400}), 32, 4)};
  const PassResult whole = run_pass({.shape = shape}, packs, {}), cut = run_pass({.shape = shape}, packs, GetParam());
  if (IsSkipped()) return;
  expect_gradients_near(cut, whole, 1e-5);
}

struct Subject {
  std::string name;
  ModelOptions shape;
};

/// A model of every layer, without and with the options of the published models, and of every kind of head and of MLP.
std::vector<Subject> subjects() {
  std::vector<Subject> all;
  for (const Layer& layer : layers()) {
    const std::string name(layer.name);
    all.push_back({name, small_model_of({name})});
    all.push_back({fmt::format("{}_published", name), small_published_model()});
    all.back().shape.layers = {name};
  }
  for (Subject& subject : all) subject.shape.ffn = 0;
  ModelOptions shape = small_model();
  shape.width = 4;
  all.push_back({"tied", shape});
  shape.tied_head = false;
  all.push_back({"untied", shape});
  shape.layers = {"se", "se"};
  shape.filter_groups = 2;
  shape.ffn = 5;
  all.push_back({"gelu_first", shape});
  shape.mlp_activation = "swiglu";
  all.push_back({"swiglu", shape});
  return all;
}

class EverySubject : public testing::TestWithParam<Subject> {};
INSTANTIATE_TEST_SUITE_P(Model, EverySubject, testing::ValuesIn(subjects()),
                         [](const auto& subject) { return subject.param.name; });

TEST_P(EverySubject, GradientsEqualFiniteDifferences) {
  on_ranks(1, [](Communicator& world) {
    Runtime runtime = one_rank_runtime(world.split(0, 0));
    const ModelOptions& shape = GetParam().shape;
    Model model({.shape = shape, .dtype = DType::f64});
    model.parameters().allocate(runtime.stream, 1);
    excite(model.parameters());
    const RankPack pack = shard(random_pack(Segments({0, 3, 13}), shape.vocabulary, 1), runtime, Layout::contiguous);
    const Pass pass{runtime, *pack.sharding};
    const Tensor losses(runtime.stream, DType::f64, {13});
    train_now(model, pass, pack.batch());
    for (const Parameter& parameter : model.parameters().parameters()) {
      if (parameter.spec.frozen) continue;
      const auto expected = finite_differences(parameter.weight, [&] {
        model.evaluate(pass, pack.batch(), losses);
        return sum_in_order(runtime.stream, losses);
      });
      EXPECT_LT(relative_error(values_of(parameter.gradient), expected), 1e-5) << parameter.spec.name;
    }
  });
}

TEST(Model, TrainAndEvaluateGiveTheSameLoss) {
  const std::vector<WholePack> packs{awkward_pack()};
  const PassResult result = run_pass(f64_model, packs, {});
  double sum = 0;
  for (const double loss : result.token_losses) sum += loss;
  EXPECT_DOUBLE_EQ(result.loss, sum);
}

TEST(Model, PackedDocumentsEqualSeparateDocuments) {
  const WholePack pack = awkward_pack();
  std::vector<WholePack> one_by_one;
  const auto starts = pack.segments.cu_seqlens();
  for (std::size_t s = 0; s + 1 < starts.size(); ++s)
    one_by_one.push_back({.segments = Segments::one_document(starts[s + 1] - starts[s]),
                          .ids = {pack.ids.begin() + starts[s], pack.ids.begin() + starts[s + 1]},
                          .labels = {pack.labels.begin() + starts[s], pack.labels.begin() + starts[s + 1]}});
  const PassResult packed = run_pass(f64_model, {&pack, 1}, {}, 7, excite),
                   separate = run_pass(f64_model, one_by_one, {}, 7, excite);
  EXPECT_LT(relative_error(packed.token_losses, separate.token_losses), 1e-12);
  expect_gradients_near(packed, separate, 1e-10);
}

TEST(Model, Bf16StaysNearF32) {
  const std::vector<WholePack> packs{awkward_pack()};
  const PassResult narrow = run_pass({.shape = small_mixed_model(), .dtype = DType::bf16}, packs, {}),
                   wide = run_pass({.shape = small_mixed_model()}, packs, {});
  EXPECT_NEAR(narrow.loss / wide.loss, 1, 2e-2);
}

TEST(Model, NotANumberStaysInItsDocument) {
  for (const int ranks : {1, 3}) expect_nan_stays_in_its_document(Fp8Level::off, {.ranks = ranks});
}

TEST(Model, OnFourRanksARankHoldsAQuarterOfTheMemory) {
  const WholePack pack = random_pack(Segments({0, 40, 65536}), 11, 8);
  const ModelOptions shape = small_model_of({"se", "mr", "li", "mamba"});
  const auto peak = [&](int ranks) {
    std::atomic<std::int64_t> largest = 0;
    on_ranks(ranks, [&](Communicator& world) {
      Runtime runtime = one_rank_runtime(world.split(0, world.rank()));
      Model model({.shape = shape});
      model.parameters().allocate(runtime.stream);
      model.parameters().initialise(1, runtime.stream);
      const RankPack part = shard(pack, runtime, Layout::contiguous);
      train_now(model, {runtime, *part.sharding}, part.batch());
      largest = world.max(runtime.stream.memory().peak_bytes());
    });
    return static_cast<double>(largest);
  };
  const double one = peak(1), four = peak(4);
  if (IsSkipped()) return;
  if (four > 0) {
    EXPECT_LT(four / one, 0.3);
  }
}

TEST(Model, NamesAndShapesAreThoseOfMambaSsm) {
  const Model model({.shape = {.width = 8, .layers = {"mamba"}, .tied_head = false}});
  std::vector<std::string> found;
  for (const Parameter& parameter : model.parameters().parameters())
    found.push_back(parameter.spec.name + parameter.spec.shape.to_string());
  const std::vector<std::string> expected{"backbone.embedding.weight[512, 8]",
                                          "backbone.layers.0.norm.weight[8]",
                                          "backbone.layers.0.mixer.in_proj.weight[32, 8]",
                                          "backbone.layers.0.mixer.conv1d.weight[16, 1, 4]",
                                          "backbone.layers.0.mixer.conv1d.bias[16]",
                                          "backbone.layers.0.mixer.x_proj.weight[33, 16]",
                                          "backbone.layers.0.mixer.dt_proj.weight[16, 1]",
                                          "backbone.layers.0.mixer.dt_proj.bias[16]",
                                          "backbone.layers.0.mixer.A_log[16, 16]",
                                          "backbone.layers.0.mixer.D[16]",
                                          "backbone.layers.0.mixer.out_proj.weight[8, 16]",
                                          "backbone.norm_f.weight[8]",
                                          "lm_head.weight[512, 8]"};
  EXPECT_EQ(found, expected);
}

TEST(Model, PresetsHaveThePublishedNumberOfParameters) {
  // Gu & Dao count a vocabulary of 50,280; ours has 512 tokens.
  const auto count = [](std::string_view name) { return Model({.shape = preset_options(name)}).parameters().count(); };
  EXPECT_EQ(count("mamba-130m") + (50280 - 512) * 768, 129135360);
  EXPECT_EQ(count("mamba-1.4b") + (50280 - 512) * 2048, 1372178432);
  EXPECT_EQ(count("mamba-2.8b") + (50280 - 512) * 2560, 2768345600);
}

TEST(Model, StripedPresetsAreThePublishedOnes) {
  struct Row {
    const char* name;
    double billions;
    std::string pattern;  // one letter for each layer, as in the papers
  };
  const std::string block = "SDHSDH*";
  const Row table[] = {{"sh2-1b", 1.1, "SDH*" + block + block + block},
                       {"sh2-7b", 6.5, "SDH*" + block + block + block + block},
                       {"sh2-40b", 40.3, "SDH*" + block + block + block + block + "SDH*" + block + block}};
  const std::map<std::string, char> letters{{"se", 'S'}, {"mr", 'D'}, {"li", 'H'}, {"attention", '*'}};
  for (const Row& row : table) {
    const ModelOptions options = preset_options(row.name);
    std::string pattern;
    for (const std::string& layer : options.layers) pattern += letters.at(layer);
    EXPECT_EQ(pattern, row.pattern) << row.name;
    EXPECT_NEAR(static_cast<double>(Model({.shape = options}).parameters().count()) / 1e9, row.billions, 0.05)
        << row.name;
    EXPECT_EQ(options.eps_of_norms(), 1e-6);
  }
}

TEST(Model, MediumFiltersDecayFromWeakToFast) {
  on_ranks(1, [](Communicator& world) {
    const Runtime runtime = one_rank_runtime(world.split(0, 0));
    ModelOptions shape = small_model_of({"mr"});
    shape.mr_taps = 11;
    Model model({.shape = shape, .dtype = DType::f64});
    model.parameters().allocate(runtime.stream, 1);
    model.parameters().initialise(1, runtime.stream);
    for (const Parameter& parameter : model.parameters().parameters()) {
      if (!parameter.spec.frozen) continue;
      EXPECT_EQ(parameter.spec.name, "backbone.layers.0.mixer.filter.decay");
      const std::vector<double> decay = values_of(parameter.weight);
      for (std::size_t g = 0; g < 3; ++g)
        for (std::size_t j = 0; j < 11; ++j)
          EXPECT_NEAR(decay[g * 11 + j], std::exp(-std::pow(10, -2 + 2 * double(g)) * 0.1 * double(j)), 1e-14)
              << g << " " << j;
    }
  });
}

TEST(Model, TheOptionsOfPublishedModelsHaveParametersOfTheirOwn) {
  ModelOptions shape = small_published_model();
  shape.tied_head = true;
  const Model with({.shape = shape});
  shape.out_bias = shape.rope_stored = false;
  const Model plain({.shape = shape});
  std::set<std::string> without, added;
  for (const Parameter& parameter : plain.parameters().parameters()) without.insert(parameter.spec.name);
  for (const Parameter& parameter : with.parameters().parameters()) {
    if (without.contains(parameter.spec.name)) continue;
    added.insert(parameter.spec.name + parameter.spec.shape.to_string());
    EXPECT_FALSE(parameter.spec.decay);
    EXPECT_TRUE(parameter.spec.wide);
    EXPECT_EQ(parameter.spec.frozen, parameter.spec.name.ends_with("inv_freq"));
  }
  EXPECT_EQ(added, (std::set<std::string>{
                       "backbone.layers.0.mixer.out_proj.bias[12]", "backbone.layers.1.mixer.out_proj.bias[12]",
                       "backbone.layers.2.mixer.out_proj.bias[12]", "backbone.layers.3.mixer.out_proj.bias[12]",
                       "backbone.layers.3.mixer.inv_freq[2]"}));
}

/// A new model with biases and stored frequencies computes what one without computes.
TEST(Model, TheInitialBiasesAndFrequenciesChangeNothing) {
  const std::vector<WholePack> packs{awkward_pack()};
  ModelOptions shape = small_mixed_model();
  const PassResult without = run_pass({.shape = shape, .dtype = DType::f64}, packs, {});
  shape.out_bias = shape.rope_stored = true;
  const PassResult with = run_pass({.shape = shape, .dtype = DType::f64}, packs, {});
  EXPECT_EQ(with.token_losses, without.token_losses);
}

TEST(Model, OddVocabulariesTrainAndScore) {
  for (const std::int64_t vocabulary : {2, 7, 513, 50280, 100003})
    for (const DType dtype : floating_types)
      for (const bool tied : {true, false}) {
        ModelOptions shape = small_model();
        shape.vocabulary = vocabulary;
        shape.tied_head = tied;
        // More tokens than one tile of the head has; the largest id occurs as a token and as a label.
        const std::int64_t tokens = vocabulary < 1000 ? Model::head_tile(shape) + 77 : 40;
        WholePack pack = random_pack(Segments({0, 3, tokens}), vocabulary, 1);
        pack.ids[5] = pack.labels[4] = static_cast<std::int32_t>(vocabulary - 1);
        const PassResult found = run_pass({.shape = shape, .dtype = dtype}, {&pack, 1}, {});
        // The logits are nearly 0 at first.
        EXPECT_NEAR(found.loss / static_cast<double>(tokens - 2), std::log(static_cast<double>(vocabulary)), 0.3);
        double sum = 0;
        for (const double loss : found.token_losses) sum += loss;
        EXPECT_NEAR(sum / found.loss, 1, 1e-5);
        const std::vector<double>& head = found.gradients.at(tied ? "backbone.embedding.weight" : "lm_head.weight");
        EXPECT_EQ(std::ssize(head), vocabulary * shape.width);
        EXPECT_NE(head.back(), 0);
      }
}

TEST(ModelOptions, AWrongOptionIsNamed) {
  const auto error_of = [](auto change) -> std::string {
    ModelOptions options = small_mixed_model();
    change(options);
    try {
      options.check();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(error_of([](ModelOptions&) {}), "");
  EXPECT_NE(error_of([](auto& o) { o.heads = 5; }).find("--heads is 5"), std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.heads = 12; }).find("--heads is 12"), std::string::npos);
  EXPECT_EQ(error_of([](auto& o) { o.heads = 12, o.rope_base = 0; }), "");
  EXPECT_NE(error_of([](auto& o) { o.filter_groups = 5; }).find("--filter-groups is 5"), std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.layers = {"mambo"}; }).find("--layers has 'mambo', expected one of: se"),
            std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.mr_decay = "slow"; }).find("--mr-decay is 'slow'"), std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.mlp_activation = "relu"; }).find("--mlp-activation is 'relu'"), std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.se_taps = 0; }).find("--se-taps is 0"), std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.norm_form = "around"; }).find("--norm-form is 'around'"), std::string::npos);
  for (const double wrong : {0.0, -1.0, 1e10, std::nan("")})
    EXPECT_NE(error_of([=](auto& o) { o.rope_scaling = wrong; }).find("--rope-scaling is"), std::string::npos) << wrong;
  EXPECT_NE(error_of([](auto& o) { o.rope_stored = true, o.rope_base = 0; }).find("--rope-stored"), std::string::npos);
}

TEST(ModelOptions, LayersTextHasCounts) {
  EXPECT_EQ(parse_layers("a b*2  c"), (std::vector<std::string>{"a", "b", "b", "c"}));
  EXPECT_EQ(layers_text(parse_layers("a b*2  c")), "a b*2 c");
  for (const char* wrong : {"a*", "a*0", "a*x", "a*3x", "a*-1", "a*100000"})
    EXPECT_THROW(parse_layers(wrong), Error) << wrong;
  for (const char* nameless : {"*2", "se *2"}) {
    try {
      parse_layers(nameless);
      ADD_FAILURE() << nameless;
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "--layers has '*2', expected NAME or NAME*COUNT");
    }
  }
}

}  // namespace
}  // namespace causeway::test
