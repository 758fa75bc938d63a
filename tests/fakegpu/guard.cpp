// What autograd asks of CUDA, answered without any: there is one device, and it has one stream.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

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

struct Hooks final : at::CUDAHooksInterface {
  bool isBuilt() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return false; }
};
static_assert(sizeof(Hooks) == sizeof(void*), "nothing but the table of its functions");

using Table = const void*;
Table* table(const void* object) { return static_cast<Table*>(const_cast<void*>(object)); }

}  // namespace

// Whether autograd is to think that there is a GPU. It keeps the hooks that it finds when it first
// needs some, so they are not replaced, but the table of their functions is.
extern "C" void pretend(bool there_is_a_gpu) {
  static const Guard guard;
  static const Hooks hooks;
  auto& used = c10::impl::device_guard_impl_registry[static_cast<size_t>(c10::DeviceType::CUDA)];
  Table* functions = table(&at::detail::getCUDAHooks());
  static const c10::impl::DeviceGuardImplInterface* const real_guard = used.load();
  static const Table real_functions = *functions;
  used.store(there_is_a_gpu ? &guard : real_guard);
  *functions = there_is_a_gpu ? *table(&hooks) : real_functions;
}
