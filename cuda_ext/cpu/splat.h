// Constants and structs that the parts of the CPU rasterizer share. The values of the constants are
// those in base.py and reference.py in esd_splat/scene/rasterize.
#pragma once

#include <cstdint>

namespace esd {

constexpr double BLUR_PX2 = 0.3;
constexpr double MIN_ALPHA = 1.0 / 255;
constexpr double MAX_ALPHA = 0.999;
constexpr double MIN_TRANSMITTANCE = 1e-4;
constexpr double NEAR = 0.01;
constexpr double FRUSTUM_MARGIN = 0.3;
constexpr double LOG2E = 1.4426950408889634;

constexpr int TILE = 16;           // side of a tile, in pixels
constexpr int PIXELS = TILE * TILE;
constexpr int GRADIENTS = 9;       // number of values in a Slot

// A projected Gaussian, ready for compositing: log2 alpha = level - A dx^2 - B dx dy - C dy^2.
template <class T>
struct Splat {
  T x, y, A, B, C, level, r, g, b;
  T half_x, half_y;  // half size of the box in which alpha reaches MIN_ALPHA, with some slack
  T z;               // depth of the centre; only set where the median depth is asked for
};

// The tiles that a Gaussian touches: columns x0 to x1 - 1 and rows y0 to y1 - 1. Empty if it is not
// drawn.
struct Rect {
  int32_t x0, y0, x1, y1;
  int64_t area() const { return int64_t(x1 - x0) * (y1 - y0); }
};

// The gradients that one Gaussian gets from one tile, before its conic is applied to the moments.
// `slope` is the sum of d loss / d log alpha over the pixels. The moments x, y, xx, xy and yy
// weight it by the distances from the Gaussian's centre.
template <class T>
struct Slot {
  T slope, x, y, xx, xy, yy, r, g, b;
};
static_assert(sizeof(Slot<float>) == GRADIENTS * sizeof(float));

// One tile of one view, and the splats that reach it, nearest first.
template <class T>
struct Tile {
  int column, row;            // position in the grid of tiles
  int width, height;          // size of the image, in pixels
  const Splat<T>* splats;     // all splats of this view
  const int32_t* list;        // indices into `splats`
  int64_t count;              // length of `list`
  const T* background;        // [3]
  int32_t* last;              // [PIXELS] position in `list` of the last splat that is drawn, or -1
  T* left;                    // [PIXELS] transmittance behind this splat
};

// The kernels that are compiled once per instruction set.
template <class T>
struct Compositor {
  // Writes one tile of the image [3, h, w] and of the alpha [h, w] of its view, and `last` and
  // `left`. If `median` is not null, also writes the median depth [h, w]: the z of the splat at
  // which the transmittance falls to 1/2 or less, or 0.
  void (*draw)(const Tile<T>& tile, T* image, T* alpha, T* median);
  // The backward pass: writes the slots of the tile's list and the gradient of the background,
  // given d loss / d image and d loss / d alpha. `slots[i]` belongs to `list[i]` and holds zeros
  // before. If `absolute` is not null, also writes the sums of |d loss / d mean| over the pixels,
  // [count, 2].
  void (*pull)(const Tile<T>& tile, const T* d_image, const T* d_alpha, Slot<T>* const* slots,
               T* const* absolute, T* d_background);
};

// Flushes denormals to zero on this thread during its lifetime. Faint splats produce many of them.
class Flushed {
 public:
#if defined(__SSE__)
  Flushed() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(before_ | 0x8040); }
  ~Flushed() { __builtin_ia32_ldmxcsr(before_); }

 private:
  unsigned before_;
#endif
};

}  // namespace esd
