/// Models on a GPU against the same models on the CPU, which other tests compare with their formulas.

#include "io/checkpoint/checkpoint_writer.hpp"
#include "kernels/activation.hpp"
#include "src/bench/documents.hpp"
#include "src/model/model_checkpoint.hpp"
#include "src/model/model_update.hpp"
#include "tests/src/model_support.hpp"
#include "tests/support/gpu.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using Gradients = std::map<std::string, std::vector<double>>;

/// A model on one device, initialised from seed 7.
struct Trained {
  Trained(const Stream& stream, Communicator world, const Model::Options& options)
      : runtime{.stream = stream, .mesh = Mesh(std::move(world), 0, 0), .strategies = {}}, model(options) {
    model.parameters().allocate(stream, 1);
    model.parameters().initialise(7, stream);
  }
  double train(const WholePack& pack) {
    const RankPack part = shard(pack, runtime, Layout::contiguous);
    return train_now(model, {runtime, *part.sharding}, part.batch());
  }
  Gradients gradients() const {
    Gradients all;
    for (const Parameter& parameter : model.parameters().parameters())
      if (!parameter.spec.frozen) all[parameter.spec.name] = host_values<double>(runtime.stream, parameter.gradient);
    return all;
  }
  std::vector<double> weights() const {
    return host_values<double>(runtime.stream, model.parameters().arenas()[0].weights);
  }

  Runtime runtime;
  Model model;
};

WholePack packed_documents() { return random_pack(Segments({0, 1, 40, 40, 300, 1000}), 11, 3); }

class ModelOnAGpu : public GpuTest {};
INSTANTIATE_TEST_SUITE_P(Gpu, ModelOnAGpu, ::testing::Values(DType::f32, DType::bf16),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

TEST_P(ModelOnAGpu, TrainsAsOnTheCpu) {
  on_ranks(1, [&](Communicator& world) {
    const Model::Options options{.shape = small_mixed_model(), .dtype = GetParam()};
    Trained on_cpu(cpu(), world.split(0, 0), options), on_gpu(gpu(), world.split(0, 0), options);
    const WholePack pack = packed_documents();
    const double expected = on_cpu.train(pack), found = on_gpu.train(pack);
    const bool narrow = GetParam() == DType::bf16;
    EXPECT_NEAR(found / expected, 1, narrow ? 2e-3 : 1e-6);
    const Gradients of_cpu = on_cpu.gradients(), of_gpu = on_gpu.gradients();
    for (const auto& [name, gradient] : of_cpu)
      EXPECT_LT(relative_error(of_gpu.at(name), gradient), narrow ? 0.1 : 1e-4) << name;
  });
}

TEST_P(ModelOnAGpu, RepeatsItsBitsWithAndWithoutRecomputation) {
  on_ranks(1, [&](Communicator& world) {
    const WholePack pack = packed_documents();
    std::optional<Gradients> first;
    std::int64_t kept_bytes = 0;
    for (const bool recompute : {false, false, true}) {
      const Stream stream(Device::cuda);
      Trained run(stream, world.split(0, 0),
                  {.shape = small_mixed_model(), .dtype = GetParam(), .recompute = recompute});
      run.train(pack);
      if (!first) first = run.gradients(), kept_bytes = stream.memory().peak_bytes();
      EXPECT_EQ(run.gradients(), *first) << recompute;
      if (recompute) {
        EXPECT_LT(stream.memory().peak_bytes(), kept_bytes);
      }
    }
  });
}

/// With extents that are multiples of 16: where the GPU multiplies 8-bit floats, norms, gates and mixers hand them on
/// as such, tile by tile. Sums in another order can move a number to the next 8-bit float, so gradients differ by part
/// of what FP8 itself changes (test_fp8_errors.cpp: 0.1 to 0.4).
TEST_P(ModelOnAGpu, InFp8TrainsAsOnTheCpuWithTheSameBitsWithAndWithoutRecomputation) {
  on_ranks(1, [&](Communicator& world) {
    const WholePack pack = packed_documents();
    for (const bool out_bias : {false, true})
      for (const Fp8Level level : {Fp8Level::projections, Fp8Level::all}) {
        Model::Options options{.shape = {.vocabulary = 11,
                                         .width = 64,
                                         .layers = {"mamba", "se", "attention", "li"},
                                         .heads = 4,
                                         .out_bias = out_bias,
                                         .ffn = 96},
                               .dtype = GetParam(),
                               .fp8 = level,
                               .block_tile = 256};
        Trained on_cpu(cpu(), world.split(0, 0), options), on_gpu(gpu(), world.split(0, 0), options);
        const double expected = on_cpu.train(pack), found = on_gpu.train(pack);
        EXPECT_NEAR(found / expected, 1, 2e-3) << name_of(level);
        const Gradients of_cpu = on_cpu.gradients(), of_gpu = on_gpu.gradients();
        for (const auto& [name, gradient] : of_cpu)
          EXPECT_LT(relative_error(of_gpu.at(name), gradient), 0.4) << name << ", " << name_of(level);
        options.recompute = true;
        Trained again(gpu(), world.split(0, 0), options);
        EXPECT_EQ(again.train(pack), found);
        EXPECT_EQ(again.gradients(), of_gpu) << name_of(level);
      }
  });
}

/// Losses, weights and optimizer state after some steps of two packs each.
std::vector<std::vector<double>> after_updates(const Stream& stream, Communicator world, const Model::Options& options,
                                               bool beside_passes) {
  Trained run(stream, std::move(world), options);
  ParameterSet& parameters = run.model.parameters();
  Optimizer optimizer({}, parameters, run.runtime.mesh.world, stream);
  ModelUpdate update(run.runtime, run.model, optimizer);
  if (beside_passes) update.update_beside_passes();
  const RankPack part = shard(packed_documents(), run.runtime, Layout::contiguous);
  std::vector<std::vector<double>> found(1);
  for (int step = 1; step <= 5; ++step) {
    update.begin();
    for (int pack = 0; pack < 2; ++pack) update.add(*part.sharding, part.batch(), 996);
    update.update(step, 1e-2, update.label_weight());
    found[0].push_back(update.wait_for_result().loss);
  }
  parameters.await_updates(stream);
  for (std::size_t i = 0; i < parameters.arenas().size(); ++i) {
    found.push_back(host_values<double>(stream, parameters.arenas()[i].weights));
    for (const Tensor* state : {&optimizer.shards()[i].master, &optimizer.shards()[i].exp_avg_sq})
      found.push_back(host_values<double>(stream, *state));
  }
  return found;
}

TEST(ModelUpdate, BesideTheNextPassIsTheSameOnTheCpu) {
  on_ranks(1, [](Communicator& world) {
    const Model::Options options{.shape = small_model()};
    EXPECT_EQ(after_updates(Stream(), world.split(0, 0), options, true),
              after_updates(Stream(), world.split(0, 0), options, false));
  });
}

/// A model that is large enough for several parts of the update.
TEST_P(ModelOnAGpu, AnUpdateBesideTheNextPassChangesNoBit) {
  on_ranks(1, [&](Communicator& world) {
    for (const bool tied : {false, true}) {
      const Model::Options options{.shape = {.vocabulary = 5000,
                                             .width = 512,
                                             .layers = std::vector<std::string>(6, "mamba"),
                                             .tied_head = tied},
                                   .dtype = GetParam()};
      const auto expected = after_updates(Stream(Device::cuda), world.split(0, 0), options, false);
      for (int repeat = 0; repeat < 3; ++repeat)
        EXPECT_EQ(after_updates(Stream(Device::cuda), world.split(0, 0), options, true), expected) << tied;
    }
  });
}

TEST_P(ModelOnAGpu, StepsAndIsCheckpointedAsOnTheCpu) {
  on_ranks(1, [&](Communicator& world) {
    const Model::Options options{.shape = small_mixed_model(), .dtype = GetParam()};
    Trained on_cpu(cpu(), world.split(0, 0), options), on_gpu(gpu(), world.split(0, 0), options);
    const causeway::testing::TemporaryFolder folder;
    for (Trained* each : {&on_cpu, &on_gpu}) {
      Optimizer optimizer({}, each->model.parameters(), world, each->runtime.stream);
      for (const Parameter& parameter :
           each->model.parameters().parameters())  // the same on both devices: no kernel rounds them
        if (!parameter.spec.frozen) scale(each->runtime.stream, {.x = parameter.weight, .y = parameter.gradient});
      const OptimizerStep found = step_now(optimizer, each->runtime.stream, 1, 0.01, 0.5);
      EXPECT_GT(found.gradient_norm, 0);
      if (each == &on_gpu)
        write_checkpoint(folder / "run", 1,
                         {.attributes = attributes_of(options.shape, options.dtype),
                          .state = {},
                          .tensors = checkpoint_tensors(each->model.parameters(), optimizer)},
                         world, each->runtime.stream);
    }
    EXPECT_LT(relative_error(on_gpu.weights(), on_cpu.weights()), GetParam() == DType::bf16 ? 1e-3 : 1e-5);
    const Checkpoint checkpoint(folder / "run");
    load_parameters(checkpoint, on_cpu.model.parameters(), cpu());
    EXPECT_EQ(on_cpu.weights(), on_gpu.weights());
    on_cpu.model.parameters().initialise(1, cpu());
    on_gpu.model.parameters().initialise(1, gpu());
    load_parameters(checkpoint, on_cpu.model.parameters(), cpu());
    load_parameters(checkpoint, on_gpu.model.parameters(), gpu());
    EXPECT_EQ(on_cpu.weights(), on_gpu.weights());
  });
}

TEST_P(ModelOnAGpu, ExtendsSeveralDocumentsAsOnTheCpu) {
  on_ranks(1, [&](Communicator& world) {
    const Model::Options options{.shape = small_mixed_model(), .dtype = GetParam()};
    Trained on_cpu(cpu(), world.split(0, 0), options), on_gpu(gpu(), world.split(0, 0), options);
    const WholePack pack = packed_documents();
    const std::int64_t steps[][3] = {{3, 200, 40}, {1, 1, 1}, {1, 1, 1}, {2, 1, 70}};
    DocumentState states[2][3];
    std::ptrdiff_t first = 0;
    for (const auto& counts : steps) {
      const std::int64_t count = counts[0] + counts[1] + counts[2];
      const std::span ids(pack.ids.data() + first, static_cast<std::size_t>(count));
      std::vector<double> logits[2];
      for (Trained* each : {&on_cpu, &on_gpu}) {
        const int device = each == &on_gpu ? 1 : 0;
        const Stream& stream = each->runtime.stream;
        std::vector<Model::Extension> extensions;
        for (int d = 0; d < 3; ++d) extensions.push_back({states[device][d], counts[d]});
        const Tensor out(stream, accumulator_of(options.dtype), {3, options.shape.vocabulary});
        each->model.extend(stream, on_device<std::int32_t>(stream, ids), extensions, out);
        logits[device] = host_values<double>(stream, out);
      }
      EXPECT_LT(relative_error(logits[1], logits[0]), GetParam() == DType::bf16 ? 0.1 : 1e-4);
      first += count;
    }
    DocumentState copy = copy_of(on_gpu.runtime.stream, states[1][1]);
    EXPECT_EQ(copy.tokens, 203);
  });
}

TEST_P(ModelOnAGpu, OutOfMemoryIsReportedAndLeavesTheDeviceUsable) {
  const Stream stream(Device::cuda);
  try {
    const Tensor all(stream, DType::u8, {std::int64_t{1} << 50});
    FAIL() << "a pebibyte was allocated";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("out of cuda memory: 1125899906842624 bytes requested, 0 bytes in use"),
              std::string::npos)
        << error.what();
  }
  const Tensor some = Tensor::zeros(stream, DType::f32, {1000});
  EXPECT_EQ(host_values<double>(stream, some), std::vector<double>(1000, 0.0));
}

}  // namespace
}  // namespace causeway::test
