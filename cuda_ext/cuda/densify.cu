// The CUDA kernels of densification, which bindings.cpp launches. The code for one row is in
// densify.h.
//
// Ranks of rows are computed in three steps: each block counts its rows, a single block sums these
// counts in order, and each row gets its rank from both. These three small kernels replace the scan
// of a library, as there are only two bits to scan per row.
#include <cuda_runtime.h>

#include "cuda/densify.cuh"

namespace esd {
namespace {

constexpr int BLOCK = 256;  // threads of a block, and rows that it counts
constexpr int WARP = 32;

__device__ int64_t index() { return blockIdx.x * int64_t(blockDim.x) + threadIdx.x; }

// Returns the sum over a block to all of its threads. The order of summation is fixed.
template <class T>
__device__ T block_sum(T value) {
  __shared__ T part[BLOCK];
  part[threadIdx.x] = value;
  for (int half = BLOCK / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
  }
  __syncthreads();
  const T total = part[0];
  __syncthreads();
  return total;
}

__global__ void observe_rows(double* gradient, int32_t* seen, const float* grad2d,
                             const bool* visible, int64_t n, int64_t views) {
  const int64_t i = index();
  if (i >= n) return;
  double sum = gradient[i];
  int32_t count = seen[i];
  for (int64_t v = 0; v < views; v++) {
    if (!visible[v * n + i]) continue;
    sum += length(grad2d + 2 * (v * n + i));
    count++;
  }
  gradient[i] = sum, seen[i] = count;
}

// Sets each action to KEEP or DROP, and computes each block's part of the mean steepness.
__global__ void keep_rows(Tables t, const double* gradient, const int32_t* seen, const bool* keep,
                          Limits limits, int64_t n, uint8_t* action, BlockSum* parts) {
  const int64_t i = index();
  const bool kept = i < n && (keep ? keep[i] : keeps(t, i, limits));
  const bool known = kept && seen[i] > 0;
  if (i < n) action[i] = kept ? KEEP : DROP;
  const double steep = block_sum(known ? steepness(gradient[i], seen[i]) : 0.0);
  const int counts = block_sum(int(known) | int(kept) << 16);  // each at most BLOCK
  if (threadIdx.x == 0) parts[blockIdx.x] = {steep, counts & 0xFFFF, counts >> 16};
}

// Run by one block: computes the mean steepness and the number of rows that are kept.
__global__ void mean_of_parts(const BlockSum* parts, int64_t blocks, double* usual,
                              int64_t* counts) {
  double steep = 0;
  int64_t known = 0, kept = 0;
  for (int64_t k = threadIdx.x; k < blocks; k += BLOCK) {
    steep += parts[k].steep, known += parts[k].known, kept += parts[k].kept;
  }
  steep = block_sum(steep), known = block_sum(known), kept = block_sum(kept);
  if (threadIdx.x == 0) *usual = known ? steep / known : nan(""), counts[0] = kept, counts[1] = 0;
}

__global__ void grow_rows(Tables t, const double* gradient, const int32_t* seen,
                          const double* usual, Limits limits, int64_t n, uint8_t* action,
                          int64_t* counts) {
  const int64_t i = index();
  bool grows = false;
  if (i < n && action[i] == KEEP && seen[i] > 0) {
    const Action act = growth(t, i, steepness(gradient[i], seen[i]), *usual, limits);
    grows = act != KEEP;
    action[i] = act;
  }
  const int total = block_sum(int(grows));
  // The order of integer additions does not affect the result.
  if (threadIdx.x == 0 && total)
    atomicAdd(reinterpret_cast<unsigned long long*>(counts + 1), (unsigned long long)total);
}

// Counts a dropped row in the low half and a growing one in the high half.
__device__ uint64_t marks(uint8_t action) {
  return uint64_t(action == DROP) | uint64_t(action >= CLONE) << 32;
}

__global__ void count_rows(const uint8_t* action, int64_t n, uint64_t* blocks) {
  const int64_t i = index();
  const uint64_t total = block_sum(i < n ? marks(action[i]) : 0);
  if (threadIdx.x == 0) blocks[blockIdx.x] = total;
}

// Run by one block: replaces each count by the sum of the counts before it, and appends the total.
__global__ void scan_blocks(uint64_t* blocks, int64_t count) {
  __shared__ uint64_t part[BLOCK];
  const int64_t each = (count + BLOCK - 1) / BLOCK;
  const int64_t from = threadIdx.x * each;
  const int64_t to = from + each < count ? from + each : count;
  uint64_t sum = 0;
  for (int64_t k = from; k < to; k++) sum += blocks[k];
  part[threadIdx.x] = sum;
  __syncthreads();
  uint64_t before = 0;
  for (int k = 0; k < threadIdx.x; k++) before += part[k];
  for (int64_t k = from; k < to; k++) {
    const uint64_t here = blocks[k];
    blocks[k] = before;
    before += here;
  }
  if (threadIdx.x == BLOCK - 1) blocks[count] = before;
}

// Computes the sum of the marks before each row, the list of holes, and the drops before `count`.
__global__ void rank_rows(const uint8_t* action, int64_t n, int64_t count, const uint64_t* blocks,
                          uint64_t* before, int64_t* holes, int64_t* tail_drops) {
  __shared__ uint64_t part[BLOCK];
  const int64_t i = index();
  const uint64_t mine = i < n ? marks(action[i]) : 0;
  part[threadIdx.x] = mine;
  for (int step = 1; step < BLOCK; step *= 2) {
    __syncthreads();
    const uint64_t left = threadIdx.x >= step ? part[threadIdx.x - step] : 0;
    __syncthreads();
    part[threadIdx.x] += left;
  }
  if (i >= n) return;
  const uint64_t rank = blocks[blockIdx.x] + part[threadIdx.x] - mine;
  before[i] = rank;
  if (mine & 1) holes[uint32_t(rank)] = i;
  if (i == count) *tail_drops = uint32_t(rank);
}

// Each warp handles one row. Most rows do not change, and their warps read only one byte.
__global__ void move_rows(Tables t, const uint8_t* action, int64_t n, int64_t count,
                          const uint64_t* before, const uint64_t* total, const int64_t* holes,
                          const int64_t* tail_drops, uint64_t seed, uint32_t step) {
  const int64_t i = index() / WARP;
  const int lane = threadIdx.x % WARP;
  if (i >= n || action[i] == DROP || (action[i] == KEEP && i < count)) return;
  // A wrong count would cause writes out of bounds. Reporting it would have to wait for the device.
  if (n - uint32_t(*total) + int64_t(*total >> 32) != count) return;
  const Action act = Action(action[i]);
  const Place to = place(i, act, n, count, uint32_t(before[i]), before[i] >> 32, *tail_drops,
                         uint32_t(*total), *total >> 32, holes);
  for (int f = 0; f < FIELDS; f++)
    if (act == KEEP || !changes_in_offspring(f)) move_field(t.field[f], i, to, lane, WARP);
  for (int m = 0; m < t.moments; m++) move_moment(t.moment[m], i, act, to, lane, WARP);
  if (act != KEEP && lane == 0) offspring(t, i, act, to, seed, step);
}

__global__ void wander_rows(Tables t, int64_t n, double strength, uint64_t seed, uint32_t step) {
  const int64_t i = index();
  if (i < n) wander(t, i, strength, seed, step);
}

int64_t blocks_for(int64_t threads) { return (threads + BLOCK - 1) / BLOCK; }

}  // namespace

void observe_cuda(double* gradient, int32_t* seen, const float* grad2d, const bool* visible,
                  int64_t n, int64_t views, cudaStream_t stream) {
  if (n) observe_rows<<<blocks_for(n), BLOCK, 0, stream>>>(gradient, seen, grad2d, visible, n, views);
}

int64_t classify_scratch(int64_t n) { return sizeof(double) + blocks_for(n) * sizeof(BlockSum); }

void classify_cuda(const Tables& t, const double* gradient, const int32_t* seen, const bool* keep,
                   const Limits& limits, int64_t n, uint8_t* action, int64_t* counts,
                   void* scratch, cudaStream_t stream) {
  double* usual = static_cast<double*>(scratch);
  BlockSum* parts = reinterpret_cast<BlockSum*>(usual + 1);
  const int64_t blocks = blocks_for(n);
  if (n)
    keep_rows<<<blocks, BLOCK, 0, stream>>>(t, gradient, seen, keep, limits, n, action, parts);
  mean_of_parts<<<1, BLOCK, 0, stream>>>(parts, blocks, usual, counts);
  if (n)
    grow_rows<<<blocks, BLOCK, 0, stream>>>(t, gradient, seen, usual, limits, n, action, counts);
}

void wander_cuda(const Tables& t, int64_t n, double strength, uint64_t seed, uint32_t step,
                 cudaStream_t stream) {
  if (n) wander_rows<<<blocks_for(n), BLOCK, 0, stream>>>(t, n, strength, seed, step);
}

// Holds the marks of blocks and their total, the marks before each row, the holes, and
// `tail_drops`.
int64_t grow_scratch(int64_t n) { return sizeof(uint64_t) * (blocks_for(n) + 1 + n + n + 1); }

void grow_cuda(const Tables& t, const uint8_t* action, int64_t n, int64_t count, uint64_t seed,
               uint32_t step, void* scratch, cudaStream_t stream) {
  if (!n) return;
  const int64_t blocks = blocks_for(n);
  uint64_t* sums = static_cast<uint64_t*>(scratch);
  uint64_t* before = sums + blocks + 1;
  int64_t* holes = reinterpret_cast<int64_t*>(before + n);
  int64_t* tail_drops = holes + n;
  count_rows<<<blocks, BLOCK, 0, stream>>>(action, n, sums);
  scan_blocks<<<1, BLOCK, 0, stream>>>(sums, blocks);
  rank_rows<<<blocks, BLOCK, 0, stream>>>(action, n, count, sums, before, holes, tail_drops);
  move_rows<<<blocks_for(n * WARP), BLOCK, 0, stream>>>(t, action, n, count, before, sums + blocks,
                                                        holes, tail_drops, seed, step);
}

}  // namespace esd
