#include "src/plan/search.hpp"

#include <algorithm>
#include <set>
#include <tuple>

#include "kernels/attention.hpp"
#include "src/cli/number_format.hpp"

namespace causeway {
namespace {

std::vector<std::pair<int, int>> meshes_of(const PlannedTraining& training, const SearchSpace& space) {
  std::vector<std::pair<int, int>> meshes;
  for (int context = 1; context <= space.ranks; ++context) {
    if (space.ranks % context != 0) continue;
    const int data = space.ranks / context;
    if ((space.context && *space.context != context) || (space.data && *space.data != data)) continue;
    if (context > training.context) continue;
    if (training.batch_tokens > 0 && data * training.context > training.batch_tokens) continue;
    meshes.emplace_back(data, context);
  }
  return meshes;
}

/// Sharding, recomputation and offloading that the space leaves open, the simplest first.
std::vector<PlannedMesh> settings_of(const PlannedTraining& training, const SearchSpace& space, Device device) {
  std::vector<PlannedMesh> all;
  std::vector<std::int64_t> repeats;  // blocks whose inputs are not kept but for one; 0: no recomputation
  if (!space.recompute || !*space.recompute) repeats.push_back(0);
  if (!space.recompute || *space.recompute)
    for (std::int64_t blocks = 1; blocks == 1 || blocks < std::ssize(training.shape.layers); blocks *= 2)
      repeats.push_back(blocks);
  for (const std::int64_t blocks : repeats)
    for (const char* offload : {"none", "optimizer", "activations", "all"}) {
      const bool activations = offload == std::string_view("activations") || offload == std::string_view("all");
      // On the CPU offloading saves nothing.
      if (space.offload ? *space.offload != offload : device == Device::cpu && offload != std::string_view("none"))
        continue;
      if (activations && blocks == 0) continue;
      for (const ShardLevel shard : {ShardLevel::optimizer, ShardLevel::gradients, ShardLevel::parameters}) {
        if ((space.shard && *space.shard != shard) ||
            (space.ranks == 1 && !space.shard && shard != ShardLevel::optimizer))
          continue;
        all.push_back(
            {.shard = shard,
             .recompute = blocks > 0,
             .recompute_blocks = std::max<std::int64_t>(blocks, 1),
             .offload_optimizer = offload == std::string_view("optimizer") || offload == std::string_view("all"),
             .offload_activations = activations});
      }
    }
  return all;
}

/// The part of the memory that it needs, of a device or of a host; at most usable_memory if it fits.
double part_needed(const Prediction& prediction, const Profile& profile) {
  const double host = prediction.host_bytes / profile.host_bytes;
  return profile.device == Device::cpu ? host : std::max(host, prediction.device_bytes / profile.device_bytes);
}

std::string needs_text(const Prediction& prediction, const Profile& profile) {
  std::string text;
  if (profile.device == Device::cuda)
    text = fmt::format("a rank needs {} of the device's {}, ", binary_bytes(prediction.device_bytes),
                       binary_bytes(profile.device_bytes));
  return text + fmt::format("a host {} of {}", binary_bytes(prediction.host_bytes), binary_bytes(profile.host_bytes));
}

/// How much a mesh asks for beside ranks, what costs most first: offloading, blocks that run again, sharding.
auto settings_key(const PlannedMesh& mesh) {
  return std::tuple(int{mesh.offload_optimizer} + int{mesh.offload_activations},
                    mesh.recompute ? mesh.recompute_blocks : 0, mesh.shard);
}

/// Moves the first of those with the fewest settings to the front, among those that are as fast as the first one.
void prefer_fewer_settings(std::vector<Prediction>& fastest_first) {
  const double least = equally_fast * fastest_first.front().tokens_per_s;
  const auto end =
      std::ranges::find_if(fastest_first, [&](const Prediction& each) { return each.tokens_per_s < least; });
  const auto best = std::ranges::min_element(fastest_first.begin(), end, {},
                                             [](const Prediction& each) { return settings_key(each.mesh); });
  std::rotate(fastest_first.begin(), best, best + 1);
}

/// What a program without CUDA cannot know of a GPU's kernels.
void warn_of_kernels(const PlannedTraining& training, const Profile& profile, std::vector<std::string>& warnings) {
  if (profile.device == Device::cpu || attention_forward.cuda != nullptr || !training.shape.uses("attention")) return;
  warnings.push_back(
      "this program is built without CUDA: the memory lacks the workspace of a GPU's attention, about 9 GB for 64K "
      "tokens of a rank and 17 GB for 128K");
}

}  // namespace

SearchResult search_mesh(const PlannedTraining& training, const SearchSpace& space, const Profile& profile,
                         std::size_t most_runners_up) {
  const std::vector<std::pair<int, int>> meshes = meshes_of(training, space);
  require(
      !meshes.empty(),
      "no mesh of {} ranks: data x context is their number{}{}, a pack of {} tokens has at least a token for each "
      "context rank{}",
      space.ranks, space.data ? fmt::format(", --data-parallel is {}", *space.data) : "",
      space.context ? fmt::format(", --context-parallel is {}", *space.context) : "", training.context,
      training.batch_tokens > 0 ? fmt::format(", a step has at most --batch-tokens {}", training.batch_tokens) : "");
  const std::vector<PlannedMesh> settings = settings_of(training, space, profile.device);
  require(!settings.empty(), "--offload {} needs --recompute", space.offload.value_or("none"));

  SearchResult result;
  std::vector<Prediction> fitting;
  std::optional<Prediction> nearest;  // of those that do not fit
  for (const auto& [data, context] : meshes) {
    std::optional<PlannedOperators> operators[2];  // without and with recomputation
    std::optional<Prediction> nearest_of_mesh;
    bool fits = false;
    for (PlannedMesh mesh : settings) {
      mesh.data = data;
      mesh.context = context;
      std::optional<PlannedOperators>& planned = operators[mesh.recompute ? 1 : 0];
      if (!planned) planned = plan_operators(training, profile, context, mesh.recompute);
      Prediction prediction = predict(training, mesh, profile, *planned);
      ++result.tried;
      if (prediction.fits) {
        fits = true;
        fitting.push_back(std::move(prediction));
      } else if (!nearest_of_mesh || part_needed(prediction, profile) < part_needed(*nearest_of_mesh, profile)) {
        nearest_of_mesh = std::move(prediction);
      }
    }
    if (fits) continue;
    result.warnings.push_back(fmt::format("{} x {} does not fit: with {}, {}", data, context,
                                          text_of(nearest_of_mesh->mesh), needs_text(*nearest_of_mesh, profile)));
    if (!nearest || part_needed(*nearest_of_mesh, profile) < part_needed(*nearest, profile)) nearest = nearest_of_mesh;
  }
  warn_of_kernels(training, profile, result.warnings);
  result.fitting = std::ssize(fitting);
  if (fitting.empty()) {
    result.best = std::move(*nearest);
    return result;
  }
  std::ranges::stable_sort(fitting, {}, [](const Prediction& each) { return -each.tokens_per_s; });
  prefer_fewer_settings(fitting);
  // A runner-up is the best of its data x context, then others that are nearly as fast.
  std::set<int> shown;
  std::vector<Prediction> later;
  for (Prediction& each : fitting) {
    const bool first_of_mesh = shown.insert(each.mesh.context).second;
    if (&each == &fitting.front()) continue;
    (first_of_mesh ? result.runners_up : later).push_back(each);
  }
  result.best = std::move(fitting.front());
  std::ranges::move(later, std::back_inserter(result.runners_up));
  if (result.runners_up.size() > most_runners_up)
    result.runners_up.erase(result.runners_up.begin() + static_cast<std::ptrdiff_t>(most_runners_up),
                            result.runners_up.end());
  constexpr double close = 0.85;
  if (part_needed(result.best, profile) > close)
    result.warnings.push_back("fits closely: " + needs_text(result.best, profile));
  return result;
}

}  // namespace causeway
