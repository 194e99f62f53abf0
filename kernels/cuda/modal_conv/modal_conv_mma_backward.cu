#include "kernels/cuda/modal_conv/modal_conv_mma_backward.cuh"

namespace causeway::cuda::modal_mma {

void launch_backward(const Stream& stream, const BackwardArgs& args) {
  launch_kernel<backward_kernel<false, GatedOperands>>(stream, args.plan.columns * args.plan.ranges, block_threads,
                                                       sizeof(BackwardMemory), args);
}

void launch_backward_parts(const Stream& stream, const BackwardArgs& args) {
  launch_kernel<backward_kernel<true, GatedOperands>>(stream, args.plan.columns * (args.plan.parts() - args.first_part),
                                                      block_threads, sizeof(BackwardMemory), args);
}

}  // namespace causeway::cuda::modal_mma
