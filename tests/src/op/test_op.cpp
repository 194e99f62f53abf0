#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <regex>

#include "io/hdf5/hdf5.hpp"
#include "src/op/case_file.hpp"
#include "src/op/run.hpp"
#include "src/op/table.hpp"
#include "tests/src/op/op_references.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

void write_case(const std::string& path, const ReferenceCase& c, bool in_float32 = false) {
  hdf5::File file = hdf5::File::open(path, hdf5::Access::create);
  for (const auto& [name, values] : c.inputs) {
    if (in_float32)
      file.write<float>(name, c.shapes.at(name), std::vector<float>(values.begin(), values.end()));
    else
      file.write<double>(name, c.shapes.at(name), values);
  }
  file.write<std::int64_t>("cu_seqlens", {std::ssize(c.cu_seqlens)}, c.cu_seqlens);
  for (const auto& [name, value] : c.attributes) {
    if (value.find_first_not_of("-0123456789") == std::string::npos)
      file.set_attribute(name, std::int64_t{std::stoll(value)});
    else
      file.set_attribute(name, value);
  }
  file.close();
}

/// run_op on that many ranks; the agreed error, or nothing.
std::optional<Error> run_on(int ranks, const OpRequest& request) {
  std::optional<Error> error;
  on_ranks(ranks, [&](Communicator& world) {
    try {
      OpWorld one(world);
      run_op(request, one);
    } catch (const AgreedError& agreed) {
      if (world.rank() == 0) error = agreed;
    }
  });
  return error;
}

/// All ways to run an operator that the table lists.
std::vector<OpRequest> every_way(const OpRow& row) {
  std::vector<OpRequest> ways;
  for (const OpStrategy& strategy : row.strategies)
    for (const Layout layout : strategy.layouts) {
      OpRequest way{.op = std::string(row.name),
                    .strategy = std::string(strategy.name),
                    .layout = std::string(name_of(layout)),
                    .backward = true};
      if (strategy.variants.empty()) ways.push_back(way);
      for (const std::string& variant : strategy.variants) {
        const auto space = variant.find(' ');
        (variant.starts_with("--schedule") ? way.schedule : way.method) = variant.substr(space + 1);
        ways.push_back(way);
      }
    }
  return ways;
}

void expect_close(const std::string& path, const Values& expected, double limit, const std::string& what) {
  const hdf5::File file = hdf5::File::open(path, hdf5::Access::read);
  for (const auto& [name, want] : expected) {
    ASSERT_TRUE(file.exists(name)) << what << ": " << name;
    const std::vector<double> got = file.dataset(name).read_all<double>(1 << 20);
    EXPECT_LE(relative_error(got, want), limit) << what << ": " << name;
  }
  EXPECT_EQ(file.list().size(), expected.size()) << what;
}

struct Packing {
  std::int64_t T;
  std::vector<std::int64_t> cu_seqlens;
};

TEST(Op, EveryWayOfEveryOperatorGivesItsFormulaOnAnyRanks) {
  const Packing packings[] = {
      {29, {0, 29}}, {31, {0, 0, 3, 4, 17, 17, 31, 31}}, {2, {0, 1, 2}}, {0, {0}}, {0, {0, 0, 0}}};
  const TemporaryFolder folder;
  const std::string in = folder / "case.h5", out = folder / "result.h5";
  for (const OpRow& row : op_rows()) {
    ASSERT_TRUE(op_references().contains(std::string(row.name)))
        << "a new operator needs its formula in tests/src/op/op_references.cpp: " << row.name;
    const Reference& reference = op_references().at(std::string(row.name));
    for (const Packing& packing : packings)
      for (const bool optional : {true, false}) {
        const ReferenceCase c = reference.make(packing.T, packing.cu_seqlens, optional);
        const Values expected = reference.expect(c);
        write_case(in, c);
        for (OpRequest way : every_way(row))
          for (const int ranks : rank_counts) {
            way.in = in;
            way.out = out;
            const std::string what = fmt::format("{} {} {} {} T={} ranks={}", row.name, way.strategy, way.layout,
                                                 way.schedule, packing.T, ranks);
            const auto error = run_on(ranks, way);
            ASSERT_FALSE(error.has_value()) << what << ": " << error->what();
            expect_close(out, expected, 1e-11, what);
          }
      }
  }
  EXPECT_EQ(folder.count(), 2u) << "temporary files are left";
}

TEST(Op, Float32AndBfloat16AreStoredAsFloat32) {
  const TemporaryFolder folder;
  for (const OpRow& row : op_rows()) {
    const Reference& reference = op_references().at(std::string(row.name));
    const ReferenceCase c = reference.make(40, {0, 11, 40}, true);
    for (const bool in_float32 : {false, true})
      for (const auto& [dtype, limit] : {std::pair{"f32", 1e-5}, std::pair{"bf16", 3e-2}}) {
        write_case(folder / "case.h5", c, in_float32);
        const auto error = run_on(3, {.op = std::string(row.name),
                                      .in = folder / "case.h5",
                                      .out = folder / "r.h5",
                                      .strategy = std::string(row.strategies.front().name),  // nothing is measured
                                      .dtype = dtype,
                                      .backward = true});
        ASSERT_FALSE(error.has_value()) << error->what();
        expect_close(folder / "r.h5", reference.expect(c), limit, fmt::format("{} {}", row.name, dtype));
        EXPECT_EQ(hdf5::File::open(folder / "r.h5", hdf5::Access::read).dataset("y").type(), hdf5::f32);
      }
  }
}

TEST(Op, TheResultSaysHowItWasMade) {
  const TemporaryFolder folder;
  write_case(folder / "case.h5", op_references().at("selective_scan").make(30, {0, 30}, true));
  ASSERT_FALSE(run_on(3, {.op = "selective_scan",
                          .in = folder / "case.h5",
                          .out = folder / "r.h5",
                          .layout = "zigzag",
                          .backward = true})
                   .has_value());
  const hdf5::File file = hdf5::File::open(folder / "r.h5", hdf5::Access::read);
  const std::pair<const char*, const char*> texts[] = {{"operator", "selective_scan"},
                                                       {"strategy", "state_carry"},
                                                       {"layout", "zigzag"},
                                                       {"dtype", "f64"},
                                                       {"device", "cpu"}};
  for (const auto& [name, value] : texts) EXPECT_EQ(file.string_attribute(name), value);
  EXPECT_EQ(file.integer_attribute("ranks"), 3);
  for (const char* name : {"bytes_sent_forward", "bytes_sent_backward", "bytes_sent_reduction"})
    EXPECT_GT(file.integer_attribute(name), 0) << name;
  for (const char* name : {"seconds_forward", "seconds_backward"}) EXPECT_GT(file.number_attribute(name), 0) << name;
  for (const char* name : {"schedule", "method", "keep_spectra"}) EXPECT_TRUE(file.has_attribute(name)) << name;
}

TEST(Op, AResultReplacesAnOlderOneAndAFailureLeavesIt) {
  const TemporaryFolder folder;
  const ReferenceCase c = op_references().at("causal_conv").make(20, {0, 20}, true);
  write_case(folder / "case.h5", c);
  folder.write("r.h5", "something old");
  OpRequest request{.op = "causal_conv", .in = folder / "missing.h5", .out = folder / "r.h5"};
  EXPECT_TRUE(run_on(2, request).has_value());
  EXPECT_EQ(testing::bytes_of(folder / "r.h5"), "something old");
  request.in = folder / "case.h5";
  EXPECT_FALSE(run_on(2, request).has_value());
  EXPECT_EQ(hdf5::File::open(folder / "r.h5", hdf5::Access::read).list(), std::vector<std::string>{"y"});
  EXPECT_EQ(folder.count(), 2u);
}

TEST(Op, ADryRunChecksAndWritesNothing) {
  const TemporaryFolder folder;
  write_case(folder / "case.h5", op_references().at("causal_conv").make(20, {0, 20}, true));
  EXPECT_FALSE(
      run_on(2, {.op = "causal_conv", .in = folder / "case.h5", .out = folder / "r.h5", .dry_run = true}).has_value());
  EXPECT_TRUE(run_on(2, {.op = "selective_scan", .in = folder / "case.h5", .dry_run = true}).has_value());
  EXPECT_EQ(folder.count(), 1u);
}

/// A change that makes a case or a request wrong, and what the message must contain.
struct Wrong {
  const char* op;
  std::function<void(ReferenceCase&)> spoil;
  std::function<void(OpRequest&)> ask;
  std::string said;
};

void keep(ReferenceCase&) {}
void plainly(OpRequest&) {}

TEST(Op, BadInputIsReportedAndLeavesNoFile) {
  const auto reshape = [](std::string name, std::vector<std::int64_t> shape) {
    return [=](ReferenceCase& c) {
      std::int64_t size = 1;
      for (const std::int64_t extent : shape) size *= extent;
      c.inputs[name].assign(static_cast<std::size_t>(size), 0.5);
      c.shapes[name] = shape;
    };
  };
  const auto drop = [](std::string name) { return [=](ReferenceCase& c) { c.inputs.erase(name); }; };
  const auto cut = [](std::vector<std::int64_t> cu_seqlens) {
    return [=](ReferenceCase& c) { c.cu_seqlens = cu_seqlens; };
  };
  const auto say = [](std::string name, std::string value) {
    return [=](ReferenceCase& c) { c.attributes[name] = value; };
  };
  const auto field = [](std::string OpRequest::*member, std::string value) {
    return [=](OpRequest& request) { request.*member = value; };
  };
  constexpr const char *conv = "causal_conv", *block = "hyena_block", *scan = "selective_scan",
                       *attention = "attention";
  const Wrong table[] = {
      {conv, drop("x"), plainly, "/x is missing"},
      {conv, drop("weight"), plainly, "/weight is missing"},
      {conv, drop("d_y"), plainly, "/d_y is missing"},
      {conv, reshape("x", {20}), plainly, "/x has shape [20]"},
      {conv, reshape("x", {20, 5, 1}), plainly, "/x has shape [20, 5, 1]"},
      {conv, reshape("x", {20, 0}), plainly, "/x has shape [20, 0]"},
      {conv, reshape("weight", {6, 4}), plainly, "/weight has shape [6, 4]"},
      {conv, reshape("weight", {5, 0}), plainly, "/weight has shape [5, 0]"},
      {conv, reshape("bias", {4}), plainly, "/bias has shape [4]"},
      {conv, reshape("d_y", {19, 5}), plainly, "/d_y has shape [19, 5]"},
      {conv, cut({0, 19}), plainly, "cu_seqlens"},
      {conv, cut({0, 21}), plainly, "cu_seqlens"},
      {conv, cut({1, 20}), plainly, "cu_seqlens"},
      {conv, cut({0, 12, 8, 20}), plainly, "cu_seqlens"},
      {conv, cut({0, -3, 20}), plainly, "cu_seqlens"},
      {conv, cut({0, INT64_MIN, INT64_MAX, 20}), plainly, "cu_seqlens"},
      {conv, cut({20}), plainly, "cu_seqlens"},
      {conv, cut({}), plainly, "cu_seqlens"},
      {conv, say("activation", "gelu"), plainly, "activation"},
      {conv, say("activation", "1"), plainly, "activation"},
      {conv, say("op", "selective_scan"), plainly, "attribute op"},
      {conv, say("op", "1"), plainly, "attribute op"},
      {conv, [](ReferenceCase& c) { c.attributes.clear(); }, plainly, "activation is missing"},
      {scan, reshape("A", {5, 0}), plainly, "/A has shape [5, 0]"},
      {scan, reshape("A", {4, 3}), plainly, "/A has shape [4, 3]"},
      {scan, reshape("B", {20, 4}), plainly, "/B has shape [20, 4]"},
      {scan, reshape("C", {3, 20}), plainly, "/C has shape [3, 20]"},
      {scan, reshape("z", {20, 1}), plainly, "/z has shape [20, 1]"},
      {scan, reshape("delta_bias", {5, 1}), plainly, "/delta_bias has shape [5, 1]"},
      {scan, drop("D"), plainly, "/D is missing"},
      {scan, say("delta_softplus", "maybe"), plainly, "delta_softplus"},
      {attention, reshape("q", {20, 3}), plainly, "/q has shape [20, 3]"},
      {attention, reshape("k", {20, 4, 3}), plainly, "/k has shape [20, 4, 3]"},
      {attention, drop("v"), plainly, "/v is missing"},
      {attention, say("rope_base", "many"), plainly, "attribute rope_base is 'many', expected a number"},
      {attention, say("rope_base", "-1"), plainly, "attribute rope_base is -1"},
      {attention, say("rope_scaling", "0"), plainly, "attribute rope_scaling is 0"},
      {attention, [](ReferenceCase& c) { c.attributes.clear(); }, plainly, "attribute rope_base is missing"},
      {attention,
       [=](ReferenceCase& c) {
         for (const char* name : {"q", "k", "v", "d_y"}) reshape(name, {20, 3, 5})(c);
       },
       plainly, "/q has shape [20, 3, 5], expected an even last axis"},
      {block, drop("featurizer"), plainly, "/featurizer is missing"},
      {block, reshape("featurizer", {17, 3}), plainly, "/featurizer has F=17, expected 3 times D=6"},
      {block, reshape("taps", {4, 9}), plainly, "/taps has G=4, expected a divisor of D=6"},
      {block, drop("taps"), plainly, "/residues is missing, expected a dataset [D, M]"},
      {block, reshape("residues", {6, 4}), plainly, "has /residues and /taps, expected one of both"},
      {block,
       [=](ReferenceCase& c) {
         drop("taps")(c), reshape("residues", {6, 4})(c);
       },
       plainly, "/log_rates is missing"},
      {conv, keep, field(&OpRequest::op, "causal_convolution"), "operator is 'causal_convolution'"},
      {conv, keep, field(&OpRequest::op, ""), "--operator is missing"},
      {conv, keep, field(&OpRequest::op, "selective_scan"), "/u is missing"},
      {conv, keep, field(&OpRequest::strategy, "hallo"), "strategy of causal_conv is 'hallo'"},
      {conv, keep, field(&OpRequest::layout, "spiral"), "spiral"},
      {conv, keep, field(&OpRequest::dtype, "f16"), "f16"},
      {conv, keep, field(&OpRequest::device, "tpu"), "tpu"},
      {conv, keep, field(&OpRequest::device, "cuda"), "cuda"},
      {conv, keep, [](OpRequest& r) { r.device = "cuda", r.dtype = "f32"; }, "cuda"},
      {conv, keep, field(&OpRequest::schedule, "chain"), "--schedule chain"},
      {scan, keep, field(&OpRequest::schedule, "sometimes"), "sometimes"},
      {scan, keep, field(&OpRequest::method, "fft"), "--method fft"},
      {conv, keep, field(&OpRequest::in, ""), "--in"},
      {conv, keep, field(&OpRequest::in, "/nonexistent/case.h5"), "/nonexistent/case.h5"},
      {conv, keep, field(&OpRequest::in, "/"), "/"},
      {conv, keep, field(&OpRequest::in, "/dev/null"), "/dev/null"},
      {conv, keep, field(&OpRequest::out, ""), "--out"},
      {conv, keep, field(&OpRequest::out, "/"), "/"},
      {conv, keep, [](OpRequest& r) { r.out = r.in; }, "the case file itself"},
  };
  for (const Wrong& wrong : table) {
    const TemporaryFolder folder;
    ReferenceCase c = op_references().at(wrong.op).make(20, {0, 7, 20}, true);
    wrong.spoil(c);
    write_case(folder / "case.h5", c);
    OpRequest request{.op = wrong.op, .in = folder / "case.h5", .out = folder / "r.h5", .backward = true};
    wrong.ask(request);
    const auto error = run_on(3, request);
    ASSERT_TRUE(error.has_value()) << "nothing said about: " << wrong.said;
    EXPECT_EQ(error->code(), ExitCode::usage) << error->what();
    const std::string message = error->what();
    EXPECT_NE(message.find(wrong.said), std::string::npos) << message << "\nshould name: " << wrong.said;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_EQ(folder.count(), 1u) << "a file is left after: " << message;
  }
}

TEST(Op, DatasetsOfWrongTypesAreReported) {
  const std::pair<std::string, std::function<void(hdf5::File&)>> table[] = {
      {"/x holds i32",
       [](hdf5::File& f) {
         f.write<std::int32_t>("x", {4, 2}, std::vector<std::int32_t>(8));
       }},
      {"/x is a group", [](hdf5::File& f) { f.create_group("x"); }},
      {"/cu_seqlens holds i32",
       [](hdf5::File& f) {
         f.write<double>("x", {4, 2}, std::vector<double>(8));
         f.write<std::int32_t>("cu_seqlens", {2}, std::vector<std::int32_t>{0, 4});
       }},
      {"/cu_seqlens holds f64",
       [](hdf5::File& f) {
         f.write<double>("x", {4, 2}, std::vector<double>(8));
         f.write<double>("cu_seqlens", {2}, std::vector<double>{0, 4});
       }},
      {"/cu_seqlens has shape [1, 2]",
       [](hdf5::File& f) {
         f.write<double>("x", {4, 2}, std::vector<double>(8));
         f.write<std::int64_t>("cu_seqlens", {1, 2}, std::vector<std::int64_t>{0, 4});
       }},
      {"/x: has a shape of 2199023255552 values",
       [](hdf5::File& f) {
         f.create_dataset("x", {.shape = {std::int64_t{1} << 40, 2}, .type = hdf5::f64});
       }},
      {"/x: has a shape of 2305843009213693952 values",
       [](hdf5::File& f) {
         f.create_dataset("x", {.shape = {std::int64_t{1} << 60, 2}, .type = hdf5::f32});
       }},
  };
  for (const auto& [said, fill] : table) {
    const TemporaryFolder folder;
    {
      hdf5::File file = hdf5::File::open(folder / "case.h5", hdf5::Access::create);
      fill(file);
      file.write<double>("weight", {2, 3}, std::vector<double>(6));
      file.set_attribute("activation", std::string("none"));
      file.close();
    }
    const auto error = run_on(2, {.op = "causal_conv", .in = folder / "case.h5", .out = folder / "r.h5"});
    ASSERT_TRUE(error.has_value()) << said;
    EXPECT_EQ(error->code(), ExitCode::usage) << error->what();
    EXPECT_NE(std::string(error->what()).find(said), std::string::npos) << error->what();
    EXPECT_EQ(folder.count(), 1u);
  }
}

TEST(Op, EveryTruncationOfACaseIsRefused) {
  const TemporaryFolder folder;
  write_case(folder / "whole.h5", op_references().at("causal_conv").make(20, {0, 20}, true));
  const std::string bytes = testing::bytes_of(folder / "whole.h5");
  for (std::size_t size = 0; size < bytes.size(); size += 1 + bytes.size() / 40) {
    const std::string cut = folder.write("cut.h5", std::string_view(bytes).substr(0, size));
    const auto error = run_on(1, {.op = "causal_conv", .in = cut, .out = folder / "r.h5"});
    ASSERT_TRUE(error.has_value()) << size << " of " << bytes.size() << " bytes";
    EXPECT_EQ(error->code(), ExitCode::usage) << error->what();
  }
  EXPECT_EQ(folder.count(), 2u);
}

TEST(Op, ListHasALineForEveryStrategy) {
  const std::string list = std::regex_replace(op_list(), std::regex(",cuda"), "");  // a build can have both devices
  EXPECT_NE(list.find("causal_conv\thalo\tcontiguous,zigzag\tcpu"), std::string::npos) << list;
  EXPECT_NE(
      list.find("selective_scan\tstate_carry\tcontiguous,zigzag\tcpu\t--schedule chain,--schedule gather,--schedule "
                "relay\n"),
      std::string::npos)
      << list;
}

TEST(Op, HelpNamesEveryInputAndAttributeOfEveryOperator) {
  const std::string text = op_inputs_text();
  for (const OpRow& row : op_rows()) {
    const std::size_t at = text.find(fmt::format("\n  {} ", row.name));
    ASSERT_NE(at, std::string::npos) << row.name << text;
    std::size_t end = text.find("\n  ", at + 1);
    while (end != std::string::npos && text[end + 3] == ' ') end = text.find("\n  ", end + 1);  // a continued line
    const std::string lines = text.substr(at, end - at);
    for (const OpInput& input : row.inputs)
      EXPECT_NE(lines.find(fmt::format(" {} [", input.name)), std::string::npos) << lines;
    for (const OpAttribute& attribute : row.attributes)
      EXPECT_NE(lines.find(fmt::format(" {} = ", attribute.name)), std::string::npos) << lines;
  }
}

/// What --help says is the same on any number of ranks, in bits. That all other values agree within rounding is tested
/// above, with every way and number of ranks.
TEST(Op, TheOutputOfFiltersOfFiniteLengthHasTheSameBitsOnAnyRanks) {
  const TemporaryFolder folder;
  const std::string in = folder / "case.h5", out = folder / "result.h5";
  for (const char* op : {"causal_conv", "hyena_se", "hyena_mr", "hyena_block"}) {
    write_case(in, op_references().at(op).make(67, {0, 0, 3, 4, 40, 40, 67}, true));
    for (const char* dtype : {"f64", "f32", "bf16"})
      for (OpRequest way : every_way(find_op(op))) {
        way.in = in;
        way.out = out;
        way.dtype = dtype;
        way.backward = false;
        std::vector<double> alone;
        for (const int ranks : {1, 2, 5}) {
          ASSERT_EQ(run_on(ranks, way), std::nullopt) << op;
          const std::vector<double> y =
              hdf5::File::open(out, hdf5::Access::read).dataset("y").read_all<double>(1 << 20);
          if (alone.empty()) alone = y;
          EXPECT_EQ(y, alone) << op << " " << way.strategy << " " << way.layout << " " << dtype << ", " << ranks;
        }
      }
  }
}

TEST(Op, WhatACaseHasBesideTheOperatorsInputsIsNamed) {
  const TemporaryFolder folder;
  write_case(folder / "case.h5", op_references().at("causal_conv").make(5, {0, 5}, true));
  const auto ignored = [&](bool backward) {
    return CaseFile(folder / "case.h5", find_op("causal_conv"), backward).ignored();
  };
  EXPECT_EQ(ignored(false), "");  // d_y is not read either, but a case for both passes has it
  EXPECT_EQ(ignored(true), "");
  {
    hdf5::File file = hdf5::File::open(folder / "case.h5", hdf5::Access::update);
    file.set_attribute("op", std::string("causal_conv"));
    file.create_group("notes/of/mine");
    file.write<double>("notes/x", {1}, std::vector<double>{1});
    file.close();
  }
  EXPECT_EQ(ignored(false), "");
  {
    hdf5::File file = hdf5::File::open(folder / "case.h5", hdf5::Access::update);
    file.write<double>("biass", {1}, std::vector<double>{1});
    file.set_attribute("activaton", std::string("silu"));
    file.close();
  }
  EXPECT_EQ(ignored(false), "dataset biass, attribute activaton");
  {
    hdf5::File file = hdf5::File::open(folder / "case.h5", hdf5::Access::update);
    for (int i = 0; i < 40; ++i) file.write<double>(fmt::format("b{:02}", i), {1}, std::vector<double>{1});
    file.write<double>("\x1b[31m" + std::string(300, 'a'), {1}, std::vector<double>{1});
    file.close();
  }
  const std::string text = ignored(false);
  EXPECT_EQ(text.find('\x1b'), std::string::npos) << text;
  EXPECT_NE(text.find(" and 35 more"), std::string::npos) << text;
  EXPECT_LE(text.size(), 800u) << text;
}

TEST(Op, ALineOnStandardErrorNamesWhatIsIgnored) {
  const TemporaryFolder folder;
  write_case(folder / "case.h5", op_references().at("causal_conv").make(5, {0, 5}, true));
  {
    hdf5::File file = hdf5::File::open(folder / "case.h5", hdf5::Access::update);
    file.write<double>("biass", {1}, std::vector<double>{1});
    file.close();
  }
  const std::string says = "warning: case.h5: not an input of causal_conv, ignored: dataset biass\n";
  const Outcome alone = shell(folder, "@causeway op causal_conv --in case.h5 --out r.h5 --ranks 3");
  EXPECT_EQ(alone.exit, 0);
  EXPECT_EQ(alone.err, says);
  folder.write("batch", "causal_conv --in case.h5 --out a.h5\n");
  const Outcome batch = shell(folder, "@causeway op --batch batch --ranks 2");
  EXPECT_EQ(batch.exit, 0);
  EXPECT_EQ(batch.err, says);
  EXPECT_EQ(batch.out.substr(0, 4), "1\t0\t") << batch.out;
}

}  // namespace
}  // namespace causeway::test
