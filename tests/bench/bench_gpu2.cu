#include <algorithm>
#include <cstdio>
#include <vector>
#include "kernels/causal_conv.hpp"
#include "kernels/selective_scan.hpp"
#include "kernels/modal_conv.hpp"
#include "kernels/cuda/check.cuh"
using namespace causeway;
__global__ void fill_bf16(bf16* x, long n, unsigned seed, float lo, float hi) {
  for (long i = blockIdx.x * (long)blockDim.x + threadIdx.x; i < n; i += (long)gridDim.x * blockDim.x) {
    unsigned h = (unsigned)(i * 2654435761u) ^ seed; h ^= h >> 16; h *= 0x85ebca6bu; h ^= h >> 13; h *= 0xc2b2ae35u; h ^= h >> 16;
    x[i] = bf16(lo + (hi - lo) * (h * 2.3283064e-10f));
  }
}
static Tensor rnd(const Stream& s, Shape shape, unsigned seed, float lo, float hi) {
  Tensor t(s, DType::bf16, shape);
  fill_bf16<<<2048, 256, 0, native_of(s)>>>((bf16*)t.view().data, t.view().size(), seed, lo, hi);
  return t;
}
static Tensor host(const Stream& s, DType d, Shape shape, const void* p) { Tensor t(s, d, shape); s.copy(t.view().data, p, t.view().bytes()); s.wait(); return t; }
static bool quick = false;
template <class F> static double median(const Stream& s, F f) {
  const int reps = quick ? 1 : 15;
  for (int i = 0; i < 3 && !quick; ++i) f();
  std::vector<float> ms;
  cudaEvent_t a, b; cudaEventCreate(&a); cudaEventCreate(&b);
  for (int i = 0; i < reps; ++i) { cudaEventRecord(a, native_of(s)); f(); cudaEventRecord(b, native_of(s)); cudaEventSynchronize(b); float m; cudaEventElapsedTime(&m, a, b); ms.push_back(m); }
  std::sort(ms.begin(), ms.end());
  return ms[ms.size() / 2];
}
int main(int argc, char**) {
  const bool once = argc > 1;
  quick = once;
  Stream s(Device::cuda);
  const long D = 4096, N = 16, W = 4;
  { Tensor a(s, DType::bf16, {1 << 14, 1 << 14}), b(s, DType::bf16, {1 << 14, 1 << 14});
    double m = median(s, [&] { s.copy(a.view().data, b.view().data, a.view().bytes()); });
    printf("copy %.3f TB/s\n", 2.0 * a.view().bytes() / m / 1e9); }
  for (long L : {16384L, 65536L})
    for (int packed : {0, 1, 2}) {
      if (once && (L > 20000 || packed != 1)) continue;
      std::vector<long> cu{0};
      unsigned r = 12345;
      while (cu.back() < L) { r = r * 1664525u + 1013904223u; long len = packed == 0 ? L : packed == 1 ? 57 + (r >> 8) % 1992 : 8; cu.push_back(std::min(L, cu.back() + len)); }
      Tensor dcu = host(s, DType::i64, {(long)cu.size()}, cu.data());
      SegmentsView seg{(const std::int64_t*)dcu.view().data, (long)cu.size() - 1, L};
      double G = 1e-9 * L * D;
      Tensor x = rnd(s, {L, D}, 1, -1, 1), dy = rnd(s, {L, D}, 2, -1, 1), y(s, DType::bf16, {L, D}), dx(s, DType::bf16, {L, D});
      { Tensor w = rnd(s, {D, W}, 3, -1, 1), b = rnd(s, {D}, 4, -1, 1), dw = Tensor::zeros(s, DType::f32, {D, W}), db = Tensor::zeros(s, DType::f32, {D});
        double f = median(s, [&] { causal_conv_forward(s, {.x = x, .halo = {}, .weight = w, .bias = b, .segments = seg, .activation = Activation::silu, .y = y}); });
        double g = median(s, [&] { causal_conv_backward(s, {.x = x, .halo = {}, .weight = w, .bias = b, .segments = seg, .activation = Activation::silu, .d_y = dy, .d_x = dx, .d_halo = {}, .d_weight = dw, .d_bias = db}); });
        printf("conv L %ld docs %zu: fwd %.3f ms (%.2f TB/s) bwd %.3f ms (%.2f TB/s)\n", L, cu.size() - 1, f, G * 4 / f, g, G * 6 / g); }
      { Tensor delta = rnd(s, {L, D}, 5, -1, 1), z = rnd(s, {L, D}, 6, -2, 2), B = rnd(s, {L, N}, 7, -1, 1), C = rnd(s, {L, N}, 8, -1, 1);
        std::vector<float> A(D * N), Dv(D, 1.f), bias(D, -4.f);
        for (long i = 0; i < D * N; ++i) A[i] = -(float)(i % N + 1);
        Tensor tA = host(s, DType::f32, {D, N}, A.data()), tD = host(s, DType::f32, {D}, Dv.data()), tb = host(s, DType::f32, {D}, bias.data());
        Tensor st(s, DType::f32, {(L + 63) / 64, D, N}), dd(s, DType::bf16, {L, D}), dz(s, DType::bf16, {L, D}), dB(s, DType::bf16, {L, N}), dC(s, DType::bf16, {L, N});
        Tensor dA = Tensor::zeros(s, DType::f32, {D, N}), dD = Tensor::zeros(s, DType::f32, {D}), db = Tensor::zeros(s, DType::f32, {D});
        SelectiveScanInputs in{.u = x, .delta = delta, .z = z, .A = tA, .B = B, .C = C, .D = tD, .delta_bias = tb, .delta_softplus = true, .segments = seg};
        double f0 = median(s, [&] { selective_scan_forward(s, {.in = in, .state_in = {}, .y = y, .states = {}}); });
        double f = median(s, [&] { selective_scan_forward(s, {.in = in, .state_in = {}, .y = y, .states = st}); });
        double g = median(s, [&] { selective_scan_backward(s, {.in = in, .states = st, .adjoint_in = {}, .d_y = dy, .d_u = dx, .d_delta = dd, .d_B = dB, .d_C = dC, .d_z = dz, .d_A = dA, .d_D = dD, .d_delta_bias = db}); });
        Tensor sm(s, DType::f32, {D, N}), sd(s, DType::f32, {D});
        double q = median(s, [&] { selective_scan_summary(s, {.in = in, .state = sm, .sum_delta = sd}); });
        double p = median(s, [&] { selective_scan_adjoint_summary(s, {.in = in, .d_y = dy, .adjoint = sm, .sum_delta = sd}); });
        printf("scan L %ld docs %zu: fwd %.3f (with states %.3f) bwd %.3f summary %.3f adjoint %.3f ms\n", L, cu.size() - 1, f0, f, g, q, p); }
      { Tensor q = rnd(s, {L, D}, 5, -1, 1), k = rnd(s, {L, D}, 6, -1, 1), dq(s, DType::bf16, {L, D}), dk(s, DType::bf16, {L, D});
        std::vector<float> res(D * N, .1f), rates(D * N), sk(D, 1.f);
        for (long i = 0; i < D * N; ++i) rates[i] = -1.f - 4.f * (i % N) / N;
        Tensor tr = host(s, DType::f32, {D, N}, res.data()), tl = host(s, DType::f32, {D, N}, rates.data()), ts = host(s, DType::f32, {D}, sk.data());
        Tensor st(s, DType::f32, {(L + 63) / 64, D, N}), dr = Tensor::zeros(s, DType::f32, {D, N}), dl = Tensor::zeros(s, DType::f32, {D, N}), ds = Tensor::zeros(s, DType::f32, {D});
        GatedConvInputs in{.q = q, .k = k, .v = x, .skip = ts, .segments = seg};
        double f = median(s, [&] { modal_conv_forward(s, {.in = in, .residues = tr, .log_rates = tl, .state_in = {}, .y = y, .states = st}); });
        double g = median(s, [&] { modal_conv_backward(s, {.in = in, .residues = tr, .log_rates = tl, .states = st, .adjoint_in = {}, .gradients = {.d_y = dy, .d_q = dq, .d_k = dk, .d_v = dx, .d_skip = ds}, .d_residues = dr, .d_log_rates = dl}); });
        printf("modal L %ld docs %zu: fwd %.3f (%.2f TB/s) bwd %.3f (%.2f TB/s)\n", L, cu.size() - 1, f, G * 8 / f, g, G * 14 / g); }
      fflush(stdout);
    }
}
