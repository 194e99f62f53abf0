#include "src/model/model_checkpoint.hpp"

#include <gtest/gtest.h>

#include "io/checkpoint/checkpoint_writer.hpp"
#include "tests/src/model_support.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// Writes a checkpoint of the model, which must be allocated, to `folder`, with these attributes.
void write(const TemporaryFolder& folder, Model& model, std::map<std::string, hdf5::Value> attributes,
           Communicator& world, const Stream& stream) {
  ParameterSet& parameters = model.parameters();
  const Optimizer optimizer({}, parameters, world, stream);
  write_checkpoint(
      folder / "run", 1,
      {.attributes = std::move(attributes), .state = {}, .tensors = checkpoint_tensors(parameters, optimizer)}, world,
      stream);
}

TEST(ModelCheckpoint, RecordsEveryOptionOfTheModel) {
  on_ranks(1, [](Communicator& world) {
    const TemporaryFolder folder;
    const Stream stream;
    const ModelOptions changed{.vocabulary = 13,
                               .width = 12,
                               .layers = {"mr", "attention", "mamba"},
                               .state = 5,
                               .expand = 3,
                               .conv_taps = 2,
                               .dt_rank = 4,
                               .heads = 2,
                               .rope_base = 500.5,
                               .rope_scaling = 2.25,
                               .rope_stored = true,
                               .out_bias = true,
                               .filter_groups = 6,
                               .se_taps = 5,
                               .mr_taps = 17,
                               .se_skip = false,
                               .mr_decay = "strong",
                               .modes = 7,
                               .ffn = 9,
                               .mlp_activation = "swiglu",
                               .norm_eps = 3e-7,
                               .norm_form = "outside",
                               .tied_head = false};
    Model model({.shape = changed});
    model.parameters().allocate(stream, 1);
    write(folder, model, attributes_of(changed, DType::f32), world, stream);
    EXPECT_TRUE(model_options_of(Checkpoint(folder / "run")) == changed);
  });
}

TEST(ModelCheckpoint, OfTheFirstVersionWithMambaOnlyIsRead) {
  on_ranks(1, [](Communicator& world) {
    const TemporaryFolder folder;
    const Stream stream;
    Model model({.shape = small_model()});
    model.parameters().allocate(stream, 1);
    auto attributes = attributes_of(small_model(), DType::f32);
    for (const char* later :
         {"heads", "rope_base", "filter_groups", "se_taps", "mr_taps", "mr_decay", "modes", "ffn", "mlp_activation",
          "norm_eps", "norm_form", "rope_scaling", "rope_stored", "out_bias", "se_skip"})
      EXPECT_EQ(attributes.erase(later), 1u) << later;
    EXPECT_EQ(attributes.size(), 9u);
    write(folder, model, attributes, world, stream);
    const ModelOptions found = model_options_of(Checkpoint(folder / "run"));
    EXPECT_EQ(found.eps_of_norms(), 1e-5);
    EXPECT_EQ(attributes_of(found, DType::f32), attributes_of(small_model(), DType::f32));
  });
}

TEST(ModelCheckpoint, WithoutTheOptionsOfPublishedModelsIsRead) {
  on_ranks(1, [](Communicator& world) {
    const TemporaryFolder folder;
    const Stream stream;
    Model model({.shape = small_mixed_model()});
    model.parameters().allocate(stream, 1);
    auto attributes = attributes_of(small_mixed_model(), DType::f32);
    for (const char* later : {"norm_form", "rope_scaling", "rope_stored", "out_bias", "se_skip"})
      EXPECT_EQ(attributes.erase(later), 1u) << later;
    write(folder, model, attributes, world, stream);
    const ModelOptions found = model_options_of(Checkpoint(folder / "run"));
    EXPECT_EQ(attributes_of(found, DType::f32), attributes_of(small_mixed_model(), DType::f32));
  });
}

TEST(ModelCheckpoint, FrozenParametersAreReadAndHaveNoOptimizerState) {
  on_ranks(1, [](Communicator& world) {
    const TemporaryFolder folder;
    const Stream stream;
    const Model::Options options{.shape = small_model_of({"mr"}), .dtype = DType::f64};
    Model model(options), other(options);
    for (Model* each : {&model, &other}) {
      each->parameters().allocate(stream, 1);
      each->parameters().initialise(1, stream);
    }
    excite(model.parameters());
    write(folder, model, attributes_of(options.shape, options.dtype), world, stream);
    const Checkpoint checkpoint(folder / "run");
    load_parameters(checkpoint, other.parameters(), Stream());
    int frozen = 0;
    for (std::size_t i = 0; i < model.parameters().parameters().size(); ++i) {
      const Parameter &expected = model.parameters().parameters()[i], &found = other.parameters().parameters()[i];
      EXPECT_TRUE(same_bits(found.weight, expected.weight)) << expected.spec.name;
      frozen += expected.spec.frozen ? 1 : 0;
      const hdf5::File file = hdf5::File::open(checkpoint.path() + "/index.h5", hdf5::Access::read);
      EXPECT_EQ(file.exists("optimizer/master/" + expected.spec.name), !expected.spec.frozen) << expected.spec.name;
    }
    EXPECT_EQ(frozen, 1);
  });
}

}  // namespace
}  // namespace causeway::test
