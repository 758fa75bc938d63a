// What autograd asks of CUDA, answered for a build of torch without CUDA: one device, one stream.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstring>

namespace {

using c10::Device;
using c10::Stream;

Device device() { return {c10::DeviceType::CUDA, 0}; }
Stream stream() { return Stream(Stream::DEFAULT, device()); }

struct Guard final : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  Device exchangeDevice(Device) const override { return device(); }
  Device getDevice() const override { return device(); }
  Stream getStream(Device) const noexcept override { return stream(); }
  Stream exchangeStream(Stream) const noexcept override { return stream(); }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard);

struct Hooks final : at::CUDAHooksInterface {
  bool isBuilt() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return false; }
};

}  // namespace

// Whether autograd is to think that there is a GPU. torch keeps the hooks that it finds when it
// first needs some, and those have no data: exchanging the table of their functions exchanges them.
extern "C" void pretend(bool there_is_a_gpu) {
  static const Hooks ours;
  static const at::CUDAHooksInterface none;
  const at::CUDAHooksInterface& source = there_is_a_gpu ? ours : none;
  static_assert(sizeof(Hooks) == sizeof(void*));
  const void* target = &at::detail::getCUDAHooks();
  std::memcpy(const_cast<void*>(target), static_cast<const void*>(&source), sizeof(void*));
}
