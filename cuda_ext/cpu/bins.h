// Lists the splats that reach each tile, nearest first. The result does not depend on the number of
// threads, because the number of parts into which the work is divided depends only on the scene,
// and every part knows where its results go.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "cpu/splat.h"
#include "ops.h"

namespace esd {

template <class F>
void parallel(int64_t count, int64_t grain, const F& f) {
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    Flushed flushed;
    f(begin, end);
  });
}

// Range [begin, end) of one of `parts` nearly equal parts of `count`.
inline std::pair<int64_t, int64_t> part_of(int64_t count, int64_t part, int64_t parts) {
  return {count * part / parts, count * (part + 1) / parts};
}

// Maps a positive depth to an integer such that the order is preserved.
inline uint32_t sort_key(float depth) {
  uint32_t bits;
  std::memcpy(&bits, &depth, 4);
  return bits;
}
inline uint64_t sort_key(double depth) {
  uint64_t bits;
  std::memcpy(&bits, &depth, 8);
  return bits;
}

// Sorts the rows of each view that touch a tile, nearest first. Rows of equal depth stay in order.
// Returns the rows of all views in one array, and where each view begins.
template <class T>
std::pair<std::vector<int32_t>, std::vector<int64_t>> sort_by_depth(
    const T* depths, const Rect* rects, int64_t views, int64_t count) {
  using Key = decltype(sort_key(T()));
  struct Item {
    Key key;
    int32_t row;
  };
  constexpr int BITS = 11, BUCKETS = 1 << BITS, PASSES = (sizeof(Key) * 8 + BITS - 1) / BITS;
  const int64_t parts = count >= 8192 ? 8 : 1, units = views * parts;

  std::vector<int64_t> filled(units, 0), begins(views + 1, 0);
  parallel(units, 1, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; u++) {
      auto [first, last] = part_of(count, u % parts, parts);
      const Rect* of_view = rects + u / parts * count;
      for (int64_t i = first; i < last; i++) filled[u] += of_view[i].area() > 0;
    }
  });
  std::vector<int64_t> at(units, 0);
  int64_t total = 0;
  for (int64_t u = 0; u < units; u++) {
    if (u % parts == 0) begins[u / parts] = total;
    at[u] = total;
    total += filled[u];
  }
  begins[views] = total;
  std::vector<Item> items(total), other(total);
  parallel(units, 1, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; u++) {
      auto [first, last] = part_of(count, u % parts, parts);
      const int64_t offset = u / parts * count;
      int64_t to = at[u];
      for (int64_t i = first; i < last; i++)
        if (rects[offset + i].area() > 0)
          items[to++] = {sort_key(depths[offset + i]), int32_t(i)};
    }
  });

  // A radix sort by the least significant digit first. Parts scatter in order, so every pass is
  // stable.
  std::vector<uint32_t> offsets(units * BUCKETS);
  for (int pass = 0; pass < PASSES; pass++) {
    const int shift = pass * BITS;
    auto digit = [&](const Item& item) { return (item.key >> shift) & (BUCKETS - 1); };
    auto range = [&](int64_t u) {
      const int64_t view = u / parts, begin = begins[view];
      auto [first, last] = part_of(begins[view + 1] - begin, u % parts, parts);
      return std::pair(begin + first, begin + last);
    };
    parallel(units, 1, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; u++) {
        uint32_t* count_of = offsets.data() + u * BUCKETS;
        std::fill(count_of, count_of + BUCKETS, 0);
        auto [first, last] = range(u);
        for (int64_t i = first; i < last; i++) count_of[digit(items[i])]++;
      }
    });
    parallel(views, 1, [&](int64_t begin, int64_t end) {
      for (int64_t view = begin; view < end; view++) {
        uint32_t sum = 0;
        for (int d = 0; d < BUCKETS; d++)
          for (int64_t p = 0; p < parts; p++) {
            uint32_t& slot = offsets[(view * parts + p) * BUCKETS + d];
            sum += std::exchange(slot, sum);
          }
      }
    });
    parallel(units, 1, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; u++) {
        uint32_t* to = offsets.data() + u * BUCKETS;
        auto [first, last] = range(u);
        const int64_t base = begins[u / parts];
        for (int64_t i = first; i < last; i++) other[base + to[digit(items[i])]++] = items[i];
      }
    });
    items.swap(other);
  }
  std::vector<int32_t> rows(total);
  for (int64_t i = 0; i < total; i++) rows[i] = items[i].row;
  return {std::move(rows), std::move(begins)};
}

// The lists of all tiles of all views: `rows`, divided at `offsets` [views * tiles + 1].
struct Bins {
  Tensor rows, offsets;
};

inline Bins fill_bins(const std::vector<int32_t>& sorted, const std::vector<int64_t>& begins,
                      const Rect* rects, int64_t views, int64_t count, int64_t tiles_x,
                      int64_t tiles_y, const Tensor& like) {
  const int64_t tiles = tiles_x * tiles_y, parts = count >= 8192 ? 8 : 1, units = views * parts;
  auto range = [&](int64_t u) {
    const int64_t view = u / parts, begin = begins[view];
    auto [first, last] = part_of(begins[view + 1] - begin, u % parts, parts);
    return std::pair(begin + first, begin + last);
  };
  auto each_tile = [&](const Rect& r, auto&& f) {
    for (int64_t y = r.y0; y < r.y1; y++)
      for (int64_t x = r.x0; x < r.x1; x++) f(y * tiles_x + x);
  };
  std::vector<int64_t> cursor(units * tiles, 0);
  parallel(units, 1, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; u++) {
      int64_t* counts = cursor.data() + u * tiles;
      auto [first, last] = range(u);
      for (int64_t i = first; i < last; i++)
        each_tile(rects[u / parts * count + sorted[i]], [&](int64_t t) { counts[t]++; });
    }
  });
  Tensor offsets = torch::stable::new_empty(like, {views * tiles + 1}, ScalarType::Long);
  int64_t* cut = data<int64_t>(offsets);
  int64_t total = 0;
  for (int64_t view = 0; view < views; view++)
    for (int64_t t = 0; t < tiles; t++) {
      cut[view * tiles + t] = total;
      for (int64_t p = 0; p < parts; p++) {
        int64_t& at = cursor[(view * parts + p) * tiles + t];
        total += std::exchange(at, total);
      }
    }
  cut[views * tiles] = total;
  Tensor rows = torch::stable::new_empty(like, {total}, ScalarType::Int);
  int32_t* list = data<int32_t>(rows);
  parallel(units, 1, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; u++) {
      int64_t* to = cursor.data() + u * tiles;
      auto [first, last] = range(u);
      for (int64_t i = first; i < last; i++)
        each_tile(rects[u / parts * count + sorted[i]], [&](int64_t t) { list[to[t]++] = sorted[i]; });
    }
  });
  return {rows, offsets};
}

}  // namespace esd
