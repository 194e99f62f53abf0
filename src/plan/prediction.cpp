#include "src/plan/prediction.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/core/integer.hpp"
#include "src/model/flops.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

Model::Options options_of_model(const PlannedTraining& training, const PlannedMesh& mesh, DType dtype) {
  return {.shape = training.shape,
          .dtype = dtype,
          .fp8 = training.fp8,
          .recompute = mesh.recompute,
          .recompute_blocks = mesh.recompute_blocks,
          .offload_activations = mesh.offload_activations};
}

/// Throws Error(usage) if the profile lacks a kernel that a strategy of these calls runs.
void require_kernels(const Profile& profile, std::span<const OperatorCall> calls, const TimedShape& shape) {
  for (const OperatorCall& call : calls)
    for (const TimedKernel& kernel : kernels_of(call.arguments, shape))
      require(std::ranges::any_of(profile.machine.kernels,
                                  [&](const KernelRate& rate) {
                                    return rate.kernel.kind == kernel.kind && rate.kernel.backward == kernel.backward;
                                  }),
              "profile {}: kernels: none is like {}, which {} runs", one_line(profile.name), text_of(kernel), call.op);
}

PlannedOperators::Seconds seconds_of(const std::vector<StrategyChoice>& choices, std::span<const OperatorCall> calls,
                                     const Sharding& sharding, const Machine& machine, PassCounts passes) {
  PlannedOperators::Seconds sum;
  for (const StrategyChoice& choice : choices) {
    std::vector<OperatorArguments> arguments;
    for (const OperatorCall& call : calls)
      if (call.op == choice.op) arguments.push_back(call.arguments);
    const std::vector<Estimate> rows = estimates(sharding, arguments, machine, passes);
    const auto row = std::ranges::find(rows, choice.strategy, &Estimate::strategy);
    ensure(row != rows.end(), "{} has no estimate of {}", choice.op, choice.strategy);
    sum.computing += row->computing_s;
    sum.exposed += row->seconds - row->computing_s;
  }
  return sum;
}

/// How often a block is run forward again in a step, on average: for the inputs of later blocks, and for its own
/// backward pass, where its last output is not computed again (Pass::only_saved).
struct Repeats {
  double for_inputs = 0, for_backward = 0;
  double all() const { return for_inputs + for_backward; }
};
Repeats repeats_of(const PassShape& shape) {
  if (!shape.recompute) return {};
  const std::size_t once = plan_of_forward(shape).steps.size() + shape.blocks,  // forward, and backward
      for_inputs = plan_of_training(shape).steps.size() - once;
  const auto blocks = static_cast<double>(shape.blocks);
  return {.for_inputs = static_cast<double>(for_inputs) / blocks, .for_backward = (blocks - 1) / blocks};
}

/// Elements of the weights that make the outputs of all blocks.
double elements_of_last_products(const ModelOptions& shape) {
  double inputs = 0;
  for (const std::string& layer : shape.layers)
    inputs += static_cast<double>(shape.ffn > 0 ? shape.ffn : layer == "mamba" ? shape.d_inner() : shape.width);
  return inputs * static_cast<double>(shape.width);
}

/// How often the weights of all groups are gathered in a pass, in bytes of whole weights (GatheredWeights).
double gathered_bytes(const Model& model, std::span<const double> bytes_of_group) {
  const PassPlan plan = plan_of_training(model.pass_shape());
  std::set<std::size_t> held;
  double bytes = 0;
  for (std::size_t step = 0; step < plan.steps.size(); ++step) {
    std::set<std::size_t> needed;
    for (std::size_t i = step; i < plan.steps.size(); ++i)
      for (const std::size_t group : plan.steps[i])
        if (i < step + 2 || (plan.keeps(group) && held.contains(group))) needed.insert(group);
    for (const std::size_t group : needed)
      if (!held.contains(group)) bytes += bytes_of_group[group];
    held = std::move(needed);
  }
  return bytes;
}

/// Bytes that the kernels between products and operators read and write for a token: norms, residual stream, MLP
/// activations, embedding, loss.
struct ElementwiseBytes {
  double forward = 0, backward = 0, head = 0;  ///< forward and backward of the blocks; both of embedding and head
  double last_gates = 0;                       ///< of `forward`: what runs again without the last output do not compute
};
ElementwiseBytes elementwise_bytes(const ModelOptions& shape, DType dtype) {
  const auto w = static_cast<double>(size_of(dtype)), a = static_cast<double>(size_of(accumulator_of(dtype))),
             width = static_cast<double>(shape.width), ffn = static_cast<double>(shape.ffn),
             vocabulary = static_cast<double>(shape.vocabulary);
  const double blocks = static_cast<double>(shape.layers.size()), branches = blocks * (ffn > 0 ? 2 : 1);
  // A norm adds the last output to the residual stream: reads both, writes the sum and the rounded result. Its backward
  // reads the gradients of both and the stream, and writes the stream's gradient, also rounded. An activation reads two
  // tensors and writes one; its backward also computes it again.
  const double rounded = w == a ? 0 : w;
  return {.forward = branches * width * (2 * a + 2 * w) + blocks * ffn * 3 * w,
          .backward = branches * width * (3 * a + w + rounded) + blocks * ffn * 6 * w,
          .head = width * (4 * a + 4 * w) + vocabulary * (2 * a + rounded),
          .last_gates = blocks * ffn * 3 * w};
}

/// What --fp8 changes in the products of blocks, for a token: elements of the weights whose products are in FP8, and
/// bytes that its conversions read and write.
struct Fp8Work {
  double elements = 0, forward_bytes = 0, backward_bytes = 0;
};
Fp8Work fp8_work(const Model& model, double tokens) {
  const auto w = static_cast<double>(size_of(model.options().dtype));
  Fp8Work work;
  for (const Parameter& parameter : model.parameters().parameters()) {
    if (!parameter.fp8) continue;
    const auto outputs = static_cast<double>(parameter.spec.shape[0]),
               inputs = static_cast<double>(parameter.spec.shape[1]), weight = outputs * inputs / tokens;
    work.elements += outputs * inputs;
    // Each operand is read and its codes are written: of tokens and outputs forward; backward of the gradient, the
    // weight by inputs, the activations by channels, and the gradient's codes once more, transposed.
    work.forward_bytes += (inputs + weight) * (w + 1);
    work.backward_bytes += (inputs + weight + outputs) * (w + 1) + outputs * 2;
  }
  return work;
}

/// Communication that proceeds beside `computing` seconds of work, which are counted elsewhere: what remains exposed.
double exposed_beside(const Cost& cost, const Machine& machine, double computing) {
  const double all = communicating_seconds(cost, machine);
  return all - std::min(hideable_seconds(cost, machine), computing);
}

/// Elements and bytes of the parameters that are trained.
struct TrainedParameters {
  double elements = 0, weight_bytes = 0, gradient_bytes = 0;
  double sent_bytes = 0;  ///< of gradients that are sent
  std::vector<double> weights_of_group;
};
TrainedParameters parameters_of(const Model& model, std::optional<DType> reduce_dtype) {
  TrainedParameters sum{.weights_of_group = std::vector<double>(model.parameters().groups())};
  for (const ParameterArena& arena : model.parameters().arenas())
    for (std::size_t group = 0; group < arena.parts.size(); ++group) {
      const auto elements = static_cast<double>(arena.parts[group].elements);
      sum.weights_of_group[group] += elements * static_cast<double>(size_of(arena.dtype));
      if (arena.frozen) continue;
      sum.elements += elements;
      sum.weight_bytes += elements * static_cast<double>(size_of(arena.dtype));
      const DType wide = accumulator_of(arena.dtype);
      sum.gradient_bytes += elements * static_cast<double>(size_of(wide));
      sum.sent_bytes += elements * static_cast<double>(size_of(reduce_dtype.value_or(wide)));
    }
  return sum;
}

/// Seconds of the parts of one step.
class StepSeconds {
 public:
  StepSeconds(const PlannedTraining& training, const PlannedMesh& mesh, const Profile& profile, const Model& model,
              const PlannedOperators& operators, const RankMemory& memory)
      : training_(training),
        mesh_(mesh),
        profile_(profile),
        model_(model),
        operators_(operators),
        memory_(memory),
        parameters_(parameters_of(model, training.gradient_reduce_dtype)),
        world_(machine_of_group(profile, mesh.ranks())),
        passes_(static_cast<double>(accumulate_of(training, mesh))),
        tokens_(static_cast<double>(ceil_div(training.context, std::int64_t{mesh.context}))),
        repeats_(repeats_of(model.pass_shape())) {}

  Parts parts() const {
    const double rate = profile_.gemm_rate() * profile_.gemm_in_step, copies = profile_.machine.copy_bytes_per_s;
    const ProductElements products = product_elements(model_);
    ElementwiseBytes bytes = elementwise_bytes(model_.options().shape, model_.options().dtype);
    const Fp8Work fp8 = fp8_work(model_, tokens_);
    bytes.forward += fp8.forward_bytes / conversion_speed;
    bytes.backward += fp8.backward_bytes / conversion_speed;
    const double fp8_rate =
        profile_.fp8_gemm_flops_per_s > 0 ? profile_.fp8_gemm_flops_per_s * profile_.gemm_in_step : rate;
    const double product_s = 2 * tokens_ * ((products.blocks - fp8.elements) / rate + fp8.elements / fp8_rate),
                 head_s = 6 * products.head * tokens_ / rate;
    const double forward = product_s + operators_.forward.computing + bytes.forward * tokens_ / copies;
    const double not_repeated = 2 * elements_of_last_products(model_.options().shape) * tokens_ /
                                    (training_.fp8 == Fp8Level::all ? fp8_rate : rate) +
                                bytes.last_gates * tokens_ / copies;
    const double again =
        repeats_.all() * (product_s + operators_.repeated.computing + bytes.forward * tokens_ / copies) -
        repeats_.for_backward * not_repeated;
    const double backward = 2 * product_s + operators_.backward.computing + bytes.backward * tokens_ / copies + again;
    const double exposed =
        operators_.forward.exposed + operators_.backward.exposed + repeats_.all() * operators_.repeated.exposed;
    return {{"matrix products", passes_ * (3 * product_s + head_s)},
            {"operators", passes_ * (operators_.forward.computing + operators_.backward.computing)},
            {"elementwise", passes_ * (bytes.forward + bytes.backward + bytes.head) * tokens_ / copies},
            {"recomputation", passes_ * again},
            {"optimizer", update_seconds(forward)},
            {"exchange of operators", passes_ * exposed},
            {"gradients and weights", exchange_seconds(forward, backward)},
            {"offloaded activations", passes_ * offloading_seconds(forward, backward)}};
  }

 private:
  double share() const { return 1.0 / mesh_.ranks(); }

  /// AdamW on this rank's share: gradient, master weight and two moments are read, the last three and the weight are
  /// written; the norm reads the gradient once more.
  double update_seconds(double forward) const {
    const double bytes = (8 * parameters_.gradient_bytes + parameters_.weight_bytes) * share();
    if (!mesh_.offload_optimizer || profile_.device == Device::cpu) return bytes / profile_.machine.copy_bytes_per_s;
    const double on_host = std::max(
        bytes / profile_.host_update_bytes_per_s,
        std::max(parameters_.gradient_bytes, parameters_.weight_bytes) * share() / profile_.host_link_bytes_per_s);
    const bool beside_next_pass = mesh_.ranks() == 1 || mesh_.shard == ShardLevel::parameters;
    return beside_next_pass ? std::max(0.0, on_host - forward) : on_host;
  }

  /// Every pass sums the gradients beside its backward part; with whole weights a step gathers them beside the first
  /// forward part, otherwise a pass gathers them beside both parts.
  double exchange_seconds(double forward, double backward) const {
    const int ranks = mesh_.ranks();
    if (ranks == 1) return 0;
    const double sent = 1 - share();
    const auto groups = static_cast<std::int64_t>(parameters_.weights_of_group.size());
    const auto cost = [&](double bytes, std::int64_t n) {  // in n rounds, of each a message to every other rank
      return Cost{
          .bytes_sent = std::llround(bytes), .to_all = true, .rounds = n, .messages = n * (ranks - 1), .hidden = 1};
    };
    const Cost sums = cost(sent * parameters_.sent_bytes, groups);
    // A rank adds what it received: reads each part and the sum, and writes the sum. Where gradients are sent in
    // another type, it first reads and rounds them.
    double added_bytes = sent * (2 * parameters_.gradient_bytes + parameters_.sent_bytes);
    if (training_.gradient_reduce_dtype) added_bytes += sent * (parameters_.gradient_bytes + parameters_.sent_bytes);
    const double adding = added_bytes / profile_.machine.copy_bytes_per_s;
    if (mesh_.shard != ShardLevel::parameters)
      return passes_ * (adding + exposed_beside(sums, world_, backward)) +
             exposed_beside(cost(sent * parameters_.weight_bytes, groups), world_, forward);
    const auto steps = static_cast<std::int64_t>(plan_of_training(model_.pass_shape()).steps.size());
    Cost both = cost(sent * gathered_bytes(model_, parameters_.weights_of_group), steps);
    both.bytes_sent += sums.bytes_sent;
    both.rounds += sums.rounds;
    both.messages += sums.messages;
    return passes_ * (adding + exposed_beside(both, world_, forward + backward));
  }

  /// Inputs of blocks leave beside the forward pass and return beside the backward pass.
  double offloading_seconds(double forward, double backward) const {
    if (profile_.device == Device::cpu) return 0;
    const double one_way = memory_.host_activations / profile_.host_link_bytes_per_s;
    return std::max(0.0, one_way - forward) + std::max(0.0, one_way - backward);
  }

  /// The part of the copies' speed that FP8's conversions reach, of which some transpose: 24 ms of 8 layers of sh2-7b.
  static constexpr double conversion_speed = 0.6;

  const PlannedTraining& training_;
  const PlannedMesh& mesh_;
  const Profile& profile_;
  const Model& model_;
  const PlannedOperators& operators_;
  const RankMemory& memory_;
  TrainedParameters parameters_;
  Machine world_;
  double passes_, tokens_;
  Repeats repeats_;
};

/// Where the documents of a pack begin, for the workspace of attention. Empty for very many documents, each of which
/// takes little.
std::vector<std::int64_t> cu_seqlens_of(const PlannedTraining& training) {
  constexpr std::int64_t most = 1 << 16;
  if (training.documents == 1 || training.documents > most || !training.shape.uses("attention")) return {};
  const Segments documents = Segments::equal_documents(training.context, training.documents);
  return {documents.cu_seqlens().begin(), documents.cu_seqlens().end()};
}

}  // namespace

std::string offload_of(const PlannedMesh& mesh) {
  if (mesh.offload_optimizer && mesh.offload_activations) return "all";
  return mesh.offload_optimizer ? "optimizer" : mesh.offload_activations ? "activations" : "none";
}

std::string text_of(const PlannedMesh& mesh) {
  std::string text = fmt::format("{} x {}", mesh.data, mesh.context);
  if (mesh.ranks() > 1) text += fmt::format(", shard {}", name_of(mesh.shard));
  if (mesh.recompute) text += ", recompute";
  if (mesh.recompute_blocks > 1) text += fmt::format(" {}", mesh.recompute_blocks);
  if (offload_of(mesh) != "none") text += ", offload " + offload_of(mesh);
  return text;
}

std::string options_of(const PlannedMesh& mesh) {
  std::string text = fmt::format("--data-parallel {} --context-parallel {}", mesh.data, mesh.context);
  if (mesh.ranks() > 1) text += fmt::format(" --shard {}", name_of(mesh.shard));
  if (mesh.recompute) text += " --recompute";
  if (mesh.recompute_blocks > 1) text += fmt::format(" --recompute-blocks {}", mesh.recompute_blocks);
  if (offload_of(mesh) != "none") text += " --offload " + offload_of(mesh);
  return text;
}

std::int64_t accumulate_of(const PlannedTraining& training, const PlannedMesh& mesh) {
  return std::max<std::int64_t>(1, training.batch_tokens / (training.context * mesh.data));
}

PlannedOperators plan_operators(const PlannedTraining& training, const Profile& profile, int context_ranks,
                                bool recompute) {
  const Model model({.shape = training.shape, .dtype = profile.dtype});
  const std::vector<OperatorCall> calls = model.calls();
  const Machine machine = machine_of_group(profile, context_ranks);
  Sharding sharding(ShardLayout(training.context, context_ranks, training.layout),
                    Segments::equal_documents(training.context, training.documents), 0);
  sharding.set_one_way_layers(one_way_layers(calls));
  require_kernels(profile, calls, timed_shape(sharding));
  PlannedOperators planned;
  if (context_ranks == 1) {
    StrategyNames first;
    for (const OperatorCall& call : calls)
      first[std::string(call.op)] =
          std::visit([](const auto& args) { return strategies_for(args).front().name; }, call.arguments);
    planned.choices = choose_strategies(calls, sharding, machine, {}, first, "one rank sends nothing");
  } else {
    planned.choices = choose_strategies(calls, sharding, machine, {.repeated = recompute ? 1.0 : 0.0}, {}, "");
  }
  const auto seconds = [&](PassCounts passes) { return seconds_of(planned.choices, calls, sharding, machine, passes); };
  planned.forward = seconds({.forward = 1, .backward = 0});
  planned.backward = seconds({.forward = 0, .backward = 1});
  planned.repeated = seconds({.forward = 0, .backward = 0, .repeated = 1});
  return planned;
}

double sum_of(const Parts& parts) {
  double sum = 0;
  for (const auto& [name, value] : parts) sum += value;
  return sum;
}

double Prediction::node_hours(double tokens, const Profile& profile) const {
  const int hosts = ceil_div(mesh.ranks(), profile.ranks_per_host);
  return tokens / tokens_per_s / 3600 * hosts;
}

Parts tensor_parts(const RankMemory& memory) {
  return {{"weights", memory.weights},
          {"gradients", memory.gradients},
          {"optimizer", memory.optimizer},
          {"gathered weights", memory.gathered},
          {"gradients of blocks", memory.block_gradients},
          {"gradients received", memory.exchange},
          {"activations", memory.activations},
          {"workspace", memory.workspace}};
}

Parts host_parts(const RankMemory& memory) {
  return {{"optimizer", memory.host_optimizer},
          {"activations", memory.host_activations},
          {"checkpoint", memory.checkpoint}};
}

Prediction predict(const PlannedTraining& training, const PlannedMesh& mesh, const Profile& profile,
                   const PlannedOperators& operators) {
  const Model model(options_of_model(training, mesh, profile.dtype));
  StrategyNames names;
  for (const StrategyChoice& choice : operators.choices) names[choice.op] = choice.strategy;
  const std::int64_t accumulate = accumulate_of(training, mesh);
  Prediction prediction{
      .mesh = mesh,
      .memory = memory_of_rank(model, {.pack_tokens = training.context,
                                       .ranks = mesh.ranks(),
                                       .context_size = mesh.context,
                                       .device = profile.device,
                                       .parameters = {.level = mesh.shard,
                                                      .several_passes = accumulate > 1,
                                                      .gradient_reduce_dtype = training.gradient_reduce_dtype,
                                                      .offload_optimizer = mesh.offload_optimizer},
                                       .strategies = std::move(names),
                                       .cu_seqlens = cu_seqlens_of(training)}),
      .strategies = operators.choices};
  const RankMemory& memory = prediction.memory;
  const int ranks_of_host = std::min(mesh.ranks(), profile.ranks_per_host);
  prediction.device_bytes = memory.on_device(profile.device);
  prediction.host_bytes = memory.on_host(profile.device) * ranks_of_host;
  prediction.fits = prediction.host_bytes <= usable_memory * profile.host_bytes &&
                    (profile.device == Device::cpu || prediction.device_bytes <= usable_memory * profile.device_bytes);
  prediction.step_s = StepSeconds(training, mesh, profile, model, operators, memory).parts();
  const double packs = static_cast<double>(mesh.data) * static_cast<double>(accumulate);
  prediction.step_tokens = packs * static_cast<double>(training.context);
  prediction.tokens_per_s = prediction.step_tokens / prediction.seconds();
  prediction.model_flops_utilisation =
      packs * training_flops(model, Segments::equal_documents(training.context, training.documents)) /
      prediction.seconds() / mesh.ranks() / profile.gemm_rate();
  return prediction;
}

}  // namespace causeway
