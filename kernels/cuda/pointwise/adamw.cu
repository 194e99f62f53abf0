#include "kernels/adamw.hpp"

#include <cmath>
#include <type_traits>

#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/expect_adamw.hpp"

namespace causeway::cuda {
namespace {

/// A product and a sum that are rounded each: nvcc fuses others to one rounding. So a step has the bits of
/// kernels/cpu/pointwise/adamw.cpp, which is compiled without fusion.
__device__ inline float product(float a, float b) { return __fmul_rn(a, b); }
__device__ inline double product(double a, double b) { return __dmul_rn(a, b); }
__device__ inline float sum(float a, float b) { return __fadd_rn(a, b); }
__device__ inline double sum(double a, double b) { return __dadd_rn(a, b); }

/// One AdamW step of an element; none if the factor is not finite.
template <class T>
struct AdamWBody {
  using R = Accumulator<T>;
  static constexpr int width = packet_width<R>;
  Rows<R> gradient, master, exp_avg, exp_avg_sq;
  Rows<T> rounded;  ///< the weights in the compute type; data is null if they are absent
  const double* factor;
  double scale;
  R rate, eps, decay, beta1, beta2, one_minus_beta1, one_minus_beta2;
  R correction1, correction2;  ///< of the moments' bias towards zero

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const double common = factor == nullptr ? 1 : *factor;
    if (!isfinite(common)) return;
    const R gradient_scale = static_cast<R>(scale * common);
    const auto gradients = gradient.template load<V>(row, column);
    auto weights = master.template load<V>(row, column), first = exp_avg.template load<V>(row, column),
         second = exp_avg_sq.template load<V>(row, column);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const R g = product(gradient_scale, gradients.at[v]);
      first.at[v] = sum(product(beta1, first.at[v]), product(one_minus_beta1, g));
      second.at[v] = sum(product(beta2, second.at[v]), product(product(one_minus_beta2, g), g));
      const R update = product(correction1, first.at[v]) / sum(std::sqrt(product(correction2, second.at[v])), eps);
      weights.at[v] = sum(weights.at[v], -product(rate, sum(update, product(decay, weights.at[v]))));
    }
    master.template store<V>(row, column, weights);
    exp_avg.template store<V>(row, column, first);
    exp_avg_sq.template store<V>(row, column, second);
    if (rounded.data != nullptr) rounded.template store<V>(row, column, Packet<T, V>::of(weights.at));
  }
};

/// A queue of the lowest priority beside a stream's own, and events after the last launches in it.
class Background {
 public:
  Background() {
    int lowest = 0, highest = 0;
    cuda_check(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
    cuda_check(cudaStreamCreateWithPriority(&queue_, cudaStreamNonBlocking, lowest));
    cuda_check(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming));
    for (cudaEvent_t& event : done_) cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;
  ~Background() {
    cudaStreamSynchronize(queue_);
    for (cudaEvent_t event : done_) cudaEventDestroy(event);
    cudaEventDestroy(ready_);
    cudaStreamDestroy(queue_);
  }

  /// Launches on the queue, after the stream's work so far.
  template <class Launch>
  void run(const Stream& stream, const Launch& launch) {
    cuda_check(cudaEventRecord(ready_, native_of(stream)));
    cuda_check(cudaStreamWaitEvent(queue_, ready_));
    launch(queue_);
    cuda_check(cudaEventRecord(done_[++calls_ % kept], queue_));
  }
  /// An event that was recorded again since stands for a later call: to wait for that is correct, too.
  void await(const Stream& stream, std::int64_t calls) {
    ensure(calls <= calls_, "await_adamw: call {} of {}", calls, calls_);
    if (calls > 0) cuda_check(cudaStreamWaitEvent(native_of(stream), done_[calls % kept]));
  }

 private:
  static constexpr std::int64_t kept = 128;
  cudaStream_t queue_ = nullptr;
  cudaEvent_t ready_ = nullptr;
  cudaEvent_t done_[kept] = {};
  std::int64_t calls_ = 0;
};

/// The global norm of the gradients, and the factor that scales and clips them: NaN if the norm or the loss is not
/// finite.
/// thread: the only one
__global__ void find_factor(const double* squares, const double* loss, double scale, double clip, double* norm,
                            double* factor) {
  *norm = sqrt(*squares) * scale;
  const bool finite = isfinite(*norm) && (loss == nullptr || isfinite(*loss));
  *factor = !finite ? nan("") : clip > 0 && *norm > clip ? scale * (clip / *norm) : scale;
}

}  // namespace

// Lower bound: one launch.
void gradient_factor(const Stream& stream, const GradientFactor& args) {
  const auto at = [](TensorView x) {
    ensure(!x.present() || (x.dtype == DType::f64 && x.size() == 1),
           "gradient_factor: an argument is {} {}, expected one f64", name_of(x.dtype), x.shape.to_string());
    return static_cast<double*>(x.data);
  };
  find_factor<<<1, 1, 0, native_of(stream)>>>(at(args.squares), at(args.loss), args.scale, args.clip, at(args.norm),
                                              at(args.factor));
  cuda_check(cudaGetLastError());
}

// Lower bound: the gradient is read, the master weights and both moments are read and written, the weights are written,
// 30 bytes for a bf16 parameter: 1.4e9 of them in 8.8 ms at 4.8 TB/s.
void adamw(const Stream& stream, const AdamW& args) {
  const TensorView weights = args.weights.present() ? args.weights : args.master;
  expect_adamw(args);
  dispatch(weights.dtype, [&]<class T>() {
    using R = Accumulator<T>;
    const auto steps = static_cast<double>(args.step);
    const AdamWBody<T> body{.gradient = Rows<R>(args.gradient),
                            .master = Rows<R>(args.master),
                            .exp_avg = Rows<R>(args.exp_avg),
                            .exp_avg_sq = Rows<R>(args.exp_avg_sq),
                            .rounded = Rows<T>(args.weights),
                            .factor = static_cast<const double*>(args.factor.data),
                            .scale = args.gradient_scale,
                            .rate = static_cast<R>(args.learning_rate),
                            .eps = static_cast<R>(args.eps),
                            .decay = static_cast<R>(args.weight_decay),
                            .beta1 = static_cast<R>(args.beta1),
                            .beta2 = static_cast<R>(args.beta2),
                            .one_minus_beta1 = static_cast<R>(1 - args.beta1),
                            .one_minus_beta2 = static_cast<R>(1 - args.beta2),
                            .correction1 = static_cast<R>(1 / (1 - std::pow(args.beta1, steps))),
                            .correction2 = static_cast<R>(1 / (1 - std::pow(args.beta2, steps)))};
    const std::initializer_list<TensorView> tensors = {args.gradient, args.master, args.exp_avg, args.exp_avg_sq,
                                                       weights};
    if (!args.in_background) return for_each_element(stream, tensors, body);
    for (const TensorView& x : tensors)
      ensure(x.shape == args.master.shape && x.dense(), "adamw in the background: a tensor is {}, expected dense {}",
             x.shape.to_string(), args.master.shape.to_string());
    if (args.master.size() == 0) return;
    stream.resource<Background>().run(stream, [&](cudaStream_t queue) {
      dispatch_width<AdamWBody<T>::width>(rows_start_aligned(tensors, AdamWBody<T>::width), [&]<int V> {
        over_elements<V><<<grid_of(ceil_div(args.master.size(), V), 256), 256, 0, queue>>>(1, args.master.size(), body);
        cuda_check(cudaGetLastError());
      });
    });
  });
}

// Lower bound: nothing is launched.
void await_adamw(const Stream& stream, const AwaitAdamW& args) {
  stream.resource<Background>().await(stream, args.calls);
}

}  // namespace causeway::cuda
