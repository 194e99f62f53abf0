#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "io/hdf5/hdf5.hpp"
#include "tests/src/python.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// Two models of transformers, one tied and in f32, one in bf16 and in several files; documents; and their
/// log-likelihoods. Also a model in float64 computes norms and logits in float32 there.
constexpr const char* make_models = R"(
import torch
from transformers import MambaConfig, MambaForCausalLM
torch.manual_seed(1)
documents = [torch.randint(0, 96, (n,)) for n in (140, 1, 33, 7)]
open('d.tokens', 'w').writelines(' '.join(map(str, d.tolist())) + '\n' for d in documents)
for name, tied, dtype in (('tied', True, torch.float32), ('sharded', False, torch.bfloat16)):
    config = MambaConfig(vocab_size=96, hidden_size=40, num_hidden_layers=2, state_size=8, initializer_range=0.3,
                         tie_word_embeddings=tied, layer_norm_epsilon=1e-6)
    model = MambaForCausalLM(config).to(dtype)
    model.save_pretrained(name, max_shard_size='40KB')
    model = model.double().eval()
    with torch.no_grad(), open(name + '.expected', 'w') as out:
        for d in documents:
            logits = torch.log_softmax(model(d[None]).logits[0], -1)
            print(repr(logits[:-1].gather(1, d[1:, None]).sum().item()), file=out)
)";

/// Loads what convert wrote by both ways, and compares the logits with those of the source.
constexpr const char* compare_models = R"(
import glob, torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, MambaConfig, MambaForCausalLM
for name in ('tied', 'sharded'):
    models = [AutoModelForCausalLM.from_pretrained(f, dtype=torch.float64).eval() for f in (name, name + '.back')]
    tokens = torch.arange(60)[None]
    with torch.no_grad():
        a, b = (model(tokens).logits for model in models)
    assert torch.equal(a, b), (a - b).abs().max()
    config = MambaConfig.from_pretrained(name + '.back')
    weights = {}
    for file in glob.glob(name + '.back/*.safetensors'):
        weights.update(load_file(file))
    print(MambaForCausalLM(config).load_state_dict(weights, strict=True))
)";

TEST(ConvertWithTransformers, ScoresAreTransformersOwnAndTheWayBackGivesTheSameLogits) {
  if (const std::string why = without_python("transformers.models.mamba.modeling_mamba"); !why.empty())
    GTEST_SKIP() << why;
  const TemporaryFolder folder;
  const Outcome made = run_python(folder, make_models, "");
  ASSERT_EQ(made.exit, 0) << made.err;
  const auto run = [&](const std::string& command) {
    const Outcome outcome = shell(folder, expanded(command));
    ASSERT_EQ(outcome.exit, 0) << command << "\n" << outcome.err;
  };
  run("@causeway import d.tokens --vocabulary 96 --out d.h5");
  for (const std::string name : {"tied", "sharded"}) {
    run(fmt::format("@causeway convert {0} --to causeway --out {0}.checkpoint", name));
    run(
        fmt::format("@causeway score --checkpoint {}.checkpoint --data d.h5 --out s.h5 --dtype f64 --transport local "
                    "--ranks 3 --layout zigzag",
                    name));
    const auto scores =
        hdf5::File::open(folder / "s.h5", hdf5::Access::read).dataset("document/log_likelihood").read_all<double>(100);
    std::ifstream expected(folder / (name + ".expected"));
    ASSERT_EQ(scores.size(), 4u);
    for (const double score : scores) {
      double wanted = 0;
      expected >> wanted;
      EXPECT_NEAR(score, wanted, 1e-6 * std::abs(wanted)) << name;
    }
    run(fmt::format("@causeway convert {0}.checkpoint --to huggingface --out {0}.back --max-shard-size 40KB", name));
  }
  const Outcome compared = run_python(folder, compare_models, "");
  EXPECT_EQ(compared.exit, 0) << compared.out << compared.err;
}

}  // namespace
}  // namespace causeway::test
