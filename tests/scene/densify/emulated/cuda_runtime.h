// Just enough of CUDA to run the kernels of cuda_ext/cuda on a machine without a GPU: the threads
// of a block are threads of the processor, and blocks run one after another.
#pragma once

#include <barrier>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __shared__ static

using cudaStream_t = void*;

struct Index {
  int x;
};
inline thread_local Index threadIdx, blockIdx, blockDim;
inline std::barrier<>* in_block;

inline void __syncthreads() { in_block->arrive_and_wait(); }
inline void atomicAdd(unsigned long long* sum, unsigned long long more) {
  __atomic_fetch_add(sum, more, __ATOMIC_RELAXED);
}

template <class Kernel>
void launch(int64_t blocks, int threads, int, cudaStream_t, Kernel kernel) {
  std::barrier<> barrier(threads);
  in_block = &barrier;
  std::vector<std::thread> all;
  for (int t = 0; t < threads; t++) {
    all.emplace_back([=, &barrier] {
      for (int64_t block = 0; block < blocks; block++) {
        threadIdx.x = t, blockIdx.x = int(block), blockDim.x = threads;
        kernel();
        barrier.arrive_and_wait();
      }
    });
  }
  for (auto& thread : all) thread.join();
}
