// The operators observe, classify, grow and wander on CUDA. Their schemas are in cpu/densify.cpp.
// No operator waits for the device.
#include "cuda/densify.cuh"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <optional>
#include <tuple>
#include <vector>

#include "densify_ops.h"

// Defined in libtorch_cuda. With a CPU build of torch, which lacks it, it is null and never called.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t,
                                                                                   void**);

namespace esd {
namespace {

// The device of a tensor, and torch's current stream on this device.
struct Launch {
  explicit Launch(const Tensor& x) : device(x.get_device_index()), guard(device) {
    void* found = nullptr;
    if (!aoti_torch_get_current_cuda_stream ||
        aoti_torch_get_current_cuda_stream(device, &found))
      fail("torch has no CUDA stream");
    stream = static_cast<cudaStream_t>(found);
  }
  void check() const {
    if (const cudaError_t error = cudaGetLastError()) fail("CUDA: ", cudaGetErrorString(error));
  }
  int device;
  torch::stable::accelerator::DeviceGuard guard;
  cudaStream_t stream;
};

Tensor bytes(const Tensor& like, int64_t count) {
  return torch::stable::new_empty(like, {count}, ScalarType::Byte);
}

void observe(Tensor gradient, Tensor seen, const Tensor grad2d, const Tensor visible) {
  const int64_t n = rows_of(gradient, "gradient");
  const Launch on(gradient);
  const int64_t views = check_seen(gradient, seen, grad2d, visible, on.device);
  observe_cuda(data<double>(gradient), data<int32_t>(seen), data<float>(grad2d),
               data<bool>(visible), n, views, on.stream);
  on.check();
}

std::tuple<Tensor, Tensor> classify(const std::vector<Tensor> fields, const Tensor gradient,
                                    const Tensor seen, const std::optional<Tensor> keep,
                                    double largest, double faintest, double faintest_to_grow,
                                    double split_above, double grow_ratio) {
  const int64_t n = rows_of(gradient, "gradient");
  const Launch on(gradient);
  const Tables t = tables_of(fields, {}, n, on.device);
  check_judged(gradient, seen, keep, on.device);
  const Tensor action = bytes(gradient, n), scratch = bytes(gradient, classify_scratch(n));
  const Tensor counts = torch::stable::new_empty(gradient, {2}, ScalarType::Long);
  classify_cuda(t, data<double>(gradient), data<int32_t>(seen),
                keep ? data<bool>(*keep) : nullptr,
                {largest, faintest, faintest_to_grow, split_above, grow_ratio}, n,
                data<uint8_t>(action), data<int64_t>(counts), scratch.data_ptr(), on.stream);
  on.check();
  return {action, counts};
}

void grow(const Tensor action, std::vector<Tensor> fields, std::vector<Tensor> moments,
          int64_t count, int64_t seed, int64_t step) {
  const int64_t n = rows_of(action, "action");
  const Launch on(action);
  expect("action", action, ScalarType::Byte, {n}, on.device);
  const Tables t = tables_of(fields, moments, count > n ? count : n, on.device);
  const Tensor scratch = bytes(action, grow_scratch(n));
  grow_cuda(t, data<uint8_t>(action), n, count, uint64_t(seed), uint32_t(step),
            scratch.data_ptr(), on.stream);
  on.check();
}

void wander_all(std::vector<Tensor> fields, double strength, int64_t seed, int64_t step) {
  if (fields.empty()) fail("fields: must be ", FIELDS, " tensors, got 0");
  const int64_t n = rows_of(fields[0], "means");
  const Launch on(fields[0]);
  const Tables t = tables_of(fields, {}, n, on.device);
  wander_cuda(t, n, strength, uint64_t(seed), uint32_t(step), on.stream);
  on.check();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(esd_splat, CUDA, m) {
  m.impl("observe", TORCH_BOX(&observe));
  m.impl("classify", TORCH_BOX(&classify));
  m.impl("grow", TORCH_BOX(&grow));
  m.impl("wander", TORCH_BOX(&wander_all));
}

}  // namespace esd
