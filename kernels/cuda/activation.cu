#include "kernels/activation.hpp"

#include <type_traits>

#include "kernels/cuda/elementwise.cuh"

namespace causeway::cuda {
namespace {

template <class X, class Y>
struct Scaled {
  using Wide = std::common_type_t<Accumulator<X>, Accumulator<Y>>;
  Rows<X> x;
  Rows<Y> y;
  Wide alpha;
  bool accumulate;

  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    Y& to = y(row, column);
    const Wide product = alpha * static_cast<Wide>(x(row, column));
    to = static_cast<Accumulator<Y>>(accumulate ? static_cast<Wide>(to) + product : product);
  }
};

template <class T>
struct Filled {
  Rows<T> y;
  T value;

  __device__ void operator()(std::int64_t row, std::int64_t column) const { y(row, column) = value; }
};

}  // namespace

void scale(const Stream& stream, const Scale& args) {
  dispatch(args.x.dtype, [&]<class X>() {
    dispatch(args.y.dtype, [&]<class Y>() {
      using Body = Scaled<X, Y>;
      for_each_element(stream, {args.x, args.y}, Body{Rows<X>(args.x), Rows<Y>(args.y), static_cast<typename Body::Wide>(args.alpha), args.accumulate});
    });
  });
}

void fill(const Stream& stream, const Fill& args) {
  dispatch(args.y.dtype, [&]<class T>() {
    for_each_element(stream, {args.y}, Filled<T>{Rows<T>(args.y), T(static_cast<Accumulator<T>>(args.value))});
  });
}

}  // namespace causeway::cuda
