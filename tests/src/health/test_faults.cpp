#include "src/health/faults.hpp"

#include <gtest/gtest.h>

#include "kernels/core/error.hpp"

namespace causeway::test {
namespace {

TEST(Faults, AreParsedFromTheOption) {
  const Fault fault = parse_fault("hang:step=12,rank=3,phase=backward,layer=2");
  EXPECT_EQ(fault.kind, FaultKind::hang);
  EXPECT_EQ(fault.step, 12);
  EXPECT_EQ(fault.rank, 3);
  EXPECT_EQ(fault.point, FaultPoint(Phase::backward));
  EXPECT_EQ(fault.layer, 2);
  EXPECT_EQ(parse_fault("kill:step=1,phase=hash").point, FaultPoint(CheckpointStage::hash));
  EXPECT_EQ(parse_fault("kill:step=1").point, FaultPoint(Phase::forward));
  EXPECT_EQ(parse_fault("enospc:step=1").point, FaultPoint(CheckpointStage::shard));
  for (const char* wrong :
       {"", "kill", "kill:", "kill:rank=1", "die:step=1", "kill:step=", "kill:step=-1", "kill:step=1x",
        "kill:step=1,rank=-1", "kill:step=1,rank=99999999999", "kill:step=1,phase=lunch",
        "kill:step=1,layer=1,phase=data", "kill:step=1,when=now", "nan:step=1,phase=optimizer",
        "bit_flip:step=1,phase=forward", "short_write:step=1,phase=publish", "kill step=1"}) {
    try {
      parse_fault(wrong);
      ADD_FAILURE() << wrong;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage) << wrong;
      EXPECT_NE(std::string(error.what()).find("--inject-fault is '"), std::string::npos) << error.what();
    }
  }
}

TEST(Faults, EachOccursOnceAtItsPoint) {
  Faults faults({parse_fault("kill:step=3,phase=backward,layer=1"), parse_fault("kill:step=3,phase=backward"),
                 parse_fault("bit_flip:step=4"), parse_fault("nan:step=5,layer=1")},
                0);
  EXPECT_FALSE(faults.take({.step = 3, .at = Phase::forward, .layer = 1}));
  EXPECT_FALSE(faults.take({.step = 2, .at = Phase::backward, .layer = 1}));
  EXPECT_TRUE(faults.take({.step = 3, .at = Phase::backward, .layer = 0}));  // the fault without a layer
  EXPECT_FALSE(faults.take({.step = 3, .at = Phase::backward, .layer = 0}));
  EXPECT_TRUE(faults.take({.step = 3, .at = Phase::backward, .layer = 1}));
  EXPECT_FALSE(faults.take({.step = 3, .at = Phase::backward, .layer = 1}));
  EXPECT_FALSE(faults.take({.step = 4, .at = CheckpointStage::shard, .layer = -1}));
  EXPECT_TRUE(
      faults.take({.step = 4, .at = CheckpointStage::hashed, .layer = -1}));  // a bit is flipped after hashing only
  EXPECT_TRUE(faults.has_nan());
  for (int again = 0; again < 2; ++again) EXPECT_TRUE(faults.makes_nan(5, Phase::forward, 1));
  EXPECT_FALSE(faults.makes_nan(5, Phase::backward, 1));
  EXPECT_FALSE(faults.makes_nan(6, Phase::forward, 1));
}

}  // namespace
}  // namespace causeway::test
