// What all operators of esd_splat._C share: tensors of torch's stable interface and their checks.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>

namespace esd {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Throws an error with a message of one line, which becomes a RuntimeError in Python.
template <class... Parts>
[[noreturn]] inline void fail(const Parts&... parts) {
  std::ostringstream line;
  (line << ... << parts);
  throw std::runtime_error(line.str());
}

constexpr int64_t ANY = -1;  // a size that `expect` does not check

inline const char* name_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Bool: return "bool";
    case ScalarType::Byte: return "uint8";
    default: return "another type";
  }
}

inline std::string shape_of(const Tensor& x) {
  std::ostringstream text;
  text << "[";
  for (int64_t i = 0; i < x.dim(); i++) text << (i ? ", " : "") << x.size(i);
  text << "]";
  return text.str();
}

constexpr int CPU = -1;  // as `device`; other values are the index of a CUDA device

inline void expect_on(const char* name, const Tensor& x, int device) {
  if (device == CPU ? x.is_cpu() : x.is_cuda() && x.get_device_index() == device) return;
  if (device == CPU) fail(name, ": must be on the CPU");
  fail(name, ": must be on CUDA device ", device, ", as the other arguments");
}

// Checks all that makes it safe to access the data through a raw pointer.
inline void expect(const char* name, const Tensor& x, ScalarType type,
                   std::initializer_list<int64_t> shape, int device = CPU) {
  bool same = x.dim() == int64_t(shape.size());
  int64_t axis = 0;
  for (int64_t size : shape) {
    same = same && (size == ANY || x.size(axis) == size);
    axis++;
  }
  if (!same) {
    std::ostringstream wanted;
    for (int64_t size : shape) {
      wanted << (wanted.tellp() ? ", " : "");
      if (size == ANY) wanted << "any";
      else wanted << size;
    }
    fail(name, ": must have shape [", wanted.str(), "], got ", shape_of(x));
  }
  if (x.scalar_type() != type)
    fail(name, ": must be ", name_of(type), ", got ", name_of(x.scalar_type()));
  expect_on(name, x, device);
  if (!x.is_contiguous()) fail(name, ": must be contiguous");
}

template <class T>
T* data(const Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

}  // namespace esd
