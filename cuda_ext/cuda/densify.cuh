// The functions that bindings.cpp calls to launch kernels. They take raw pointers instead of
// tensors.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "densify.h"

namespace esd {

// One block's part of the mean steepness, and its numbers of rows that were seen and are kept.
struct BlockSum {
  double steep;
  int32_t known, kept;
};

void observe_cuda(double* gradient, int32_t* seen, const float* grad2d, const bool* visible,
                  int64_t n, int64_t views, cudaStream_t stream);

int64_t classify_scratch(int64_t n);  // size in bytes
void classify_cuda(const Tables& t, const double* gradient, const int32_t* seen, const bool* keep,
                   const Limits& limits, int64_t n, uint8_t* action, int64_t* counts,
                   void* scratch, cudaStream_t stream);

void wander_cuda(const Tables& t, int64_t n, double strength, uint64_t seed, uint32_t step,
                 cudaStream_t stream);

int64_t grow_scratch(int64_t n);  // size in bytes
void grow_cuda(const Tables& t, const uint8_t* action, int64_t n, int64_t count, uint64_t seed,
               uint32_t step, void* scratch, cudaStream_t stream);

}  // namespace esd
