#include "tests/src/model_support.hpp"

#include <mutex>

namespace causeway::test {

WholePack random_pack(Segments segments, std::int64_t vocabulary, std::uint64_t seed) {
  WholePack pack{.segments = std::move(segments)};
  const RandomStream random(seed, 99);
  for (std::int64_t t = 0; t < pack.tokens(); ++t)
    pack.ids.push_back(static_cast<std::int32_t>(random.below(t, vocabulary)));
  for (std::int64_t t = 0; t < pack.tokens(); ++t)
    pack.labels.push_back(pack.segments.end_of(t) == t + 1 ? -1 : pack.ids[static_cast<std::size_t>(t + 1)]);
  return pack;
}

RankPack shard(const WholePack& pack, const Runtime& runtime, Layout layout) {
  const Communicator& context = runtime.mesh.context;
  RankPack part;
  part.sharding =
      std::make_unique<Sharding>(ShardLayout(pack.tokens(), context.size(), layout), pack.segments, context.rank());
  const auto local = [&](const std::vector<std::int32_t>& whole) {
    Tensor tensor(runtime.stream, DType::i32, {part.sharding->local_tokens()});
    for (const Chunk& chunk : part.sharding->chunks())
      std::copy(whole.begin() + chunk.tokens.begin, whole.begin() + chunk.tokens.end,
                tensor.view().as<std::int32_t>().begin() + chunk.offset);
    return tensor;
  };
  part.ids = local(pack.ids);
  part.labels = local(pack.labels);
  return part;
}

std::string Cut::name() const { return fmt::format("{} ranks, {}, {}", ranks, name_of(layout), name_of(schedule)); }

Runtime one_rank_runtime(Communicator world, Schedule schedule) {
  return {.stream = Stream(), .mesh = Mesh(std::move(world), 0, 0), .strategies = {}, .schedule = schedule};
}

PassResult run_pass(const Model::Options& options, std::span<const WholePack> packs, const Cut& cut, std::uint64_t seed,
                    const std::function<void(const ParameterSet&)>& change) {
  PassResult result;
  std::int64_t tokens = 0;
  for (const WholePack& pack : packs) tokens += pack.tokens();
  result.token_losses.assign(static_cast<std::size_t>(tokens), 0);
  std::mutex writing;
  on_ranks(cut.ranks, [&](Communicator& world) {
    Runtime runtime = one_rank_runtime(world.split(0, world.rank()), cut.schedule);
    Model model(options);
    model.parameters().allocate(runtime.stream, 1);
    model.parameters().initialise(seed, runtime.stream);
    if (change) change(model.parameters());
    double loss = 0;
    std::int64_t first = 0;
    for (const WholePack& pack : packs) {
      const RankPack part = shard(pack, runtime, cut.layout);
      const Pass pass{runtime, *part.sharding};
      loss += model.train(pass, part.batch());
      const Tensor losses(runtime.stream, accumulator_of(options.dtype), {part.sharding->local_tokens()});
      model.evaluate(pass, part.batch(), losses);
      const std::vector<double> values = values_of(losses);
      const std::lock_guard lock(writing);
      for (const Chunk& chunk : part.sharding->chunks())
        std::copy_n(values.begin() + chunk.offset, chunk.tokens.size(),
                    result.token_losses.begin() + first + chunk.tokens.begin);
      first += pack.tokens();
    }
    loss = world.sum(loss);
    for (const ParameterArena& arena : model.parameters().arenas())
      world.all_reduce(arena.gradients, Reduction::sum, runtime.stream);
    const std::lock_guard lock(writing);
    if (world.rank() != 0) return;
    result.loss = loss;
    for (const Parameter& parameter : model.parameters().parameters())
      result.gradients.push_back(values_of(parameter.gradient));
  });
  return result;
}

void excite(const ParameterSet& parameters) {
  std::uint64_t stream = 1;
  for (const Parameter& parameter : parameters.parameters()) {
    const RandomStream random(5, stream++);
    std::vector<double> values(static_cast<std::size_t>(parameter.weight.size()));
    const bool wide_delta = parameter.spec.name.ends_with("dt_proj.bias");
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = (random.uniform(i) - 0.5) * 1.2 + (parameter.spec.name.ends_with("norm.weight") ? 1 : 0) -
                  (wide_delta ? 1 : 0);
    assign(parameter.weight, values);
  }
}

}  // namespace causeway::test
