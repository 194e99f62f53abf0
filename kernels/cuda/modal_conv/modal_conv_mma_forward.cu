#include "kernels/cuda/modal_conv/modal_conv_mma_forward_pass.cuh"

namespace causeway::cuda::modal_mma {
namespace {

/// k and v as they are.
struct GatedProduct {
  using Args = ForwardArgs;
  struct Memory {
    ForwardMemory run;
  };
  unsigned k_at, v_at;
  RowOrder order;

  __device__ static const ForwardArgs& run_of(const Args& args) { return args; }
  __device__ static void set_up(const Args&, Memory&, int, int, int, int) {}
  __device__ GatedProduct(const Args&, Memory& memory, int, int, int lane)
      : k_at(shared_address(memory.run.kv[0])), v_at(shared_address(memory.run.kv[1])), order(lane) {}
  __device__ void begin_unit(int, int, int) const {}
  __device__ void load(ProductOperands& x, const UnitStarts&, int, const LaneAddress& address) const {
    x.load(k_at, v_at, address, order);
  }
};

}  // namespace

bool has_kernels() {
#if CAUSEWAY_SM_90A
  return compute_capability() == 90;
#else
  return false;
#endif
}

void launch_forward(const Stream& stream, const ForwardArgs& args) {
  launch_kernel<forward_kernel<false, GatedProduct>>(stream, args.plan.columns * args.plan.ranges, block_threads,
                                                     sizeof(ForwardMemory), args);
}

void launch_forward_parts(const Stream& stream, const ForwardArgs& args, int end_part) {
  launch_kernel<forward_kernel<true, GatedProduct>>(stream, args.plan.columns * end_part, block_threads,
                                                    sizeof(ForwardMemory), args);
}

}  // namespace causeway::cuda::modal_mma
