#include "src/runtime/strategy_choice.hpp"

#include <gtest/gtest.h>

#include <set>

#include "io/data/dataset_writer.hpp"
#include "io/hdf5/hdf5.hpp"
#include "src/model/layer.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/ranks.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

std::string refusal(const std::string& text, Layout layout = Layout::contiguous) {
  try {
    parse_strategies(text, layout);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "";
}

TEST(StrategyChoice, NamesAreParsedAndWrittenAsText) {
  EXPECT_TRUE(parse_strategies("auto", Layout::zigzag).empty());
  const StrategyNames names = parse_strategies("hyena_li=all_to_all,causal_conv=halo,hyena_se=auto", Layout::zigzag);
  EXPECT_EQ(strategies_text(names), "causal_conv=halo,hyena_li=all_to_all");
  EXPECT_EQ(parse_strategies(strategies_text(names), Layout::zigzag), names);
  EXPECT_EQ(strategies_text({}), "auto");
}

TEST(StrategyChoice, WrongNamesAreRefusedByName) {
  EXPECT_NE(refusal("halo").find("'halo', expected auto or OPERATOR=NAME"), std::string::npos);
  EXPECT_NE(refusal("causal_con=halo").find("did you mean 'causal_conv'"), std::string::npos);
  EXPECT_NE(refusal("selective_scan=halo").find("state_carry"), std::string::npos);
  EXPECT_NE(refusal("causal_conv=halo,").find("''"), std::string::npos);
  EXPECT_NE(refusal("hyena_li=fft,hyena_li=all_to_all").find("names operator 'hyena_li' twice"), std::string::npos);
  EXPECT_NE(refusal("hyena_li=fft,hyena_li=auto").find("names operator 'hyena_li' twice"), std::string::npos);
}

TEST(StrategyChoice, AStrategyThatDoesNotRunOnTheLayoutIsRefusedAndNeverChosen) {
  for (const ListedOperator& op : listed_operators())
    for (const ListedStrategy& row : op.strategies)
      for (const Layout layout : every_layout)
        EXPECT_EQ(refusal(fmt::format("{}={}", op.name, row.name), layout).find("does not run on layout") ==
                      std::string::npos,
                  row.runs_on(layout))
            << op.name << " " << row.name;
}

TEST(StrategyChoice, StrategiesOfAnEarlierRunAreUsedIfTheyExist) {
  EXPECT_EQ(strategies_text(usable_strategies("causal_conv=halo,warp=9,hyena_li=magic", Layout::zigzag)),
            "causal_conv=halo");
  EXPECT_TRUE(usable_strategies("auto", Layout::zigzag).empty());
}

TEST(StrategyChoice, LayersInOneDirectionAreThoseBetweenExchangesInBoth) {
  const auto layers = [](const std::vector<std::string_view>& ops) {
    std::vector<OperatorCall> calls;
    for (const std::string_view op : ops) {
      calls.push_back({op, CausalConvForward()});
      if (op == "selective_scan") calls.back().arguments = SelectiveScanForward();
      if (op == "hyena_li") calls.back().arguments = ModalConvForward();
      if (op == "attention") calls.back().arguments = RotaryAttentionForward();
    }
    return one_way_layers(calls);
  };
  EXPECT_EQ(layers({"causal_conv", "selective_scan", "causal_conv", "selective_scan", "causal_conv", "selective_scan"}),
            3);
  EXPECT_EQ(layers({"selective_scan", "hyena_li", "selective_scan", "attention", "hyena_li"}), 2);
  EXPECT_EQ(layers({"attention", "attention"}), 1);
  EXPECT_EQ(layers({}), 1);
}

/// Each strategy of the scan has the lowest estimate on one of two machines. The schedule is the same on both.
TEST(StrategyChoice, TheScheduleDoesNotDependOnMeasuredTimesNorOnTheStrategiesChosenByThem) {
  SelectiveScanForward scan;
  scan.in.u = scan.in.delta = scan.y = without_data(DType::f32, {1, 64});
  scan.in.B = scan.in.C = without_data(DType::f32, {1, 4});
  scan.in.A = without_data(DType::f32, {64, 4});
  const std::vector<OperatorCall> calls(8, {"selective_scan", scan});
  Sharding sharding(ShardLayout(4096, 2, Layout::contiguous), Segments::one_document(4096), 0);
  sharding.set_one_way_layers(one_way_layers(calls));
  std::set<std::string> chosen;
  for (const double bytes_per_s : {1e3, 1e18}) {
    Machine machine{.bytes_per_s = bytes_per_s, .all_bytes_per_s = bytes_per_s, .copy_bytes_per_s = 1e18};
    for (const SelectiveScanStrategy& row : selective_scan_strategies()) {
      const PassCosts costs = row.cost(sharding, scan);
      for (const Cost& pass : {costs.forward, costs.backward})
        for (const KernelWork& work : pass.kernels)
          machine.kernels.push_back({.kernel = work.kernel, .call_s = 0, .element_s = 1e-3});
    }
    chosen.insert(choose_strategies(calls, sharding, machine, {}, {}, "").front().strategy);
    EXPECT_EQ(cheaper_schedule(sharding, 1 << 18, 1 << 18), Schedule::relay);
    EXPECT_EQ(schedule_text(Schedule::automatic, sharding),
              "auto, for each pack by its documents, with 8 layers in one direction: relay for the usual pack");
  }
  EXPECT_EQ(chosen, (std::set<std::string>{"state_carry", "all_to_all"}));
}

TEST(StrategyChoice, GivesTheReason) {
  const auto why = [](std::vector<double> seconds) {
    std::vector<Estimate> rows;
    for (const double each : seconds) rows.push_back({.strategy = rows.empty() ? "first" : "second", .seconds = each});
    return choose_strategy("op", rows).why;
  };
  EXPECT_EQ(why({1}), "the only one");
  EXPECT_EQ(why({1, 2}), "the least estimated time");
  EXPECT_EQ(why({2, 1}), "the least estimated time");
  EXPECT_EQ(why({1.02, 1}), "within 3 % of second, which comes later in the table");
}

/// The part of a text between two others.
std::string between(const std::string& text, const std::string& before, const std::string& after) {
  const auto begin = text.find(before);
  if (begin == std::string::npos) return "";
  return text.substr(begin + before.size(), text.find(after, begin + before.size()) - begin - before.size());
}

/// The strategy of causal_conv is chosen by measured times: it may be another one each time.
TEST(StrategyChoice, ADryRunShowsEveryOperatorsStrategiesAndMarksTheChosen) {
  const TemporaryFolder folder;
  DatasetWriter writer(folder / "data.h5", 512, "test");
  writer.begin_document("one");
  writer.append(std::vector<std::int32_t>(500, 65), {});
  writer.finish();
  const std::string train =
      "@causeway train --data data.h5 --model mamba-tiny --width 8 --state 4 --pack-tokens 64 --transport local ";
  const Outcome dry = shell(folder, train + "--ranks 3 --run none --dry-run --strategy selective_scan=all_to_all");
  ASSERT_EQ(dry.exit, 0) << dry.err;
  const std::string conv = between(dry.out, "\ncausal_conv: ", " (");
  EXPECT_EQ(refusal("causal_conv=" + conv), "") << dry.out;
  for (const std::string& expected : {std::string("measured on 3 ranks"), std::string("\ncausal_conv: "),
                                      std::string("selective_scan: all_to_all (forced)"), "\n* " + conv + " ",
                                      std::string("\n* all_to_all "), std::string("\n  state_carry ")})
    EXPECT_NE(dry.out.find(expected), std::string::npos) << expected << "\n" << dry.out;

  // The choice is in config.ini, and a resumed run keeps it.
  const Outcome run = shell(folder, train + "--ranks 3 --run run --steps 2 --strategy selective_scan=all_to_all");
  ASSERT_EQ(run.exit, 0) << run.err;
  const std::string chosen =
      between(testing::bytes_of(folder / "run/config.ini"), "strategy = causal_conv=", ",selective_scan=all_to_all");
  EXPECT_EQ(refusal("causal_conv=" + chosen), "");
  const Outcome resumed = shell(folder, train + "--ranks 3 --run run --steps 3 --resume auto --dry-run");
  ASSERT_EQ(resumed.exit, 0) << resumed.err;
  for (const std::string& op : {"causal_conv: " + chosen, std::string("selective_scan: all_to_all")})
    EXPECT_NE(resumed.out.find(op + " (as before)"), std::string::npos) << resumed.out;

  const Outcome score = shell(folder,
                              "@causeway score --checkpoint run --data data.h5 --out s.h5 --ranks 2 "
                              "--transport local --strategy causal_conv=all_to_all");
  ASSERT_EQ(score.exit, 0) << score.err;
  EXPECT_NE(score.err.find("causal_conv=all_to_all,selective_scan="), std::string::npos) << score.err;
}

TEST(StrategyChoice, NothingIsMeasuredWhereEveryStrategyIsGivenUnlessItIsToBeExplained) {
  ParameterSet parameters(DType::f32);
  const ModelOptions options{.width = 8, .layers = {"mamba"}};
  const auto mixer = find_layer("mamba").make(options, "", parameters);
  const StrategyNames both = {{"causal_conv", "halo"}, {"selective_scan", "state_carry"}},
                      one = {{"causal_conv", "halo"}};
  for (const auto& [given, wants, measures] :
       {std::tuple(both, false, false), std::tuple(both, true, true), std::tuple(one, false, true)})
    on_ranks(2, [&, given = given, wants = wants, measures = measures](Communicator& world) {
      Runtime runtime{.stream = Stream(), .mesh = Mesh(world.split(0, world.rank()), 1, 2), .strategies = given};
      const UsualPack pack{.tokens = 64, .document_tokens = 64, .wants_estimates = wants};
      const std::string text = choose_strategies(runtime, mixer->calls(DType::f32), pack, "forced");
      EXPECT_EQ(text.starts_with("measured on 2 ranks"), measures) << text;
      EXPECT_NE(text.find("\ncausal_conv: halo (forced)"), std::string::npos) << text;
      EXPECT_EQ(runtime.strategies.names().at("causal_conv"), "halo");
      EXPECT_TRUE(runtime.strategies.names().contains("selective_scan"));
    });
}

TEST(StrategyChoice, EveryOperatorOfEveryLayerHasATable) {
  for (const Layer& layer : layers()) {
    ParameterSet parameters(DType::f32);
    ModelOptions options{.layers = {std::string(layer.name)}};
    const auto mixer = layer.make(options, "", parameters);
    EXPECT_FALSE(mixer->calls(DType::f32).empty()) << layer.name << ": its strategies would never be chosen";
    for (const OperatorCall& call : mixer->calls(DType::f32)) {
      EXPECT_EQ(refusal(fmt::format("{}=auto", call.op)), "") << layer.name;
      const Sharding sharding(ShardLayout(100, 3, Layout::contiguous), Segments::one_document(100), 0);
      // Every kernel that a strategy's cost names is one that is measured, in both passes.
      Machine machine;
      for (const TimedKernel& kernel : kernels_of(call.arguments, timed_shape(sharding)))
        machine.kernels.push_back({kernel, 1e-6, 1e-9});
      EXPECT_GT(cheapest(estimates(sharding, std::vector{call.arguments}, machine, {})).seconds, 0) << layer.name;
    }
  }
}

}  // namespace
}  // namespace causeway::test
