// What the parts of the CPU rasterizer agree on. The numbers are those of rasterize/base.py.
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

constexpr int TILE = 16;           // side of a tile, pixels
constexpr int PIXELS = TILE * TILE;
constexpr int GRADIENTS = 9;       // numbers of a Slot

// A projected Gaussian, ready for compositing: log2 alpha = level - A dx^2 - B dx dy - C dy^2.
template <class T>
struct Splat {
  T x, y, A, B, C, level, r, g, b;
  T half_x, half_y;  // of the box in which alpha reaches MIN_ALPHA, with some slack
  T unused;
};

// First and one-past-last tile, in columns and rows; empty where a Gaussian is not drawn.
struct Rect {
  int32_t x0, y0, x1, y1;
  int64_t area() const { return int64_t(x1 - x0) * (y1 - y0); }
};

// What one Gaussian gets from one tile, before its conic is applied to the moments.
// slope is d loss / d log alpha; moments of it are taken from the Gaussian's centre.
template <class T>
struct Slot {
  T slope, x, y, xx, xy, yy, r, g, b;
};
static_assert(sizeof(Slot<float>) == GRADIENTS * sizeof(float));

// One tile of one view: which splats reach it, nearest first, and where its pixels are.
template <class T>
struct Tile {
  int column, row;            // of tiles
  int width, height;          // of the image
  const Splat<T>* splats;     // of this view
  const int32_t* list;        // rows of the view's splats
  int64_t count;
  const T* background;        // [3]
  int32_t* last;              // [PIXELS] position in the list of the last splat that is seen
  T* left;                    // [PIXELS] light that passes all of them
};

// The kernels that exist once per instruction set.
template <class T>
struct Compositor {
  // Fills one tile of images [3, h, w] and alphas [h, w] of its view, and last and left.
  void (*draw)(const Tile<T>& tile, T* image, T* alpha);
  // Slots of the tile's list, given d loss / d image and d loss / d alpha; and that of the
  // background. `slots[i]` belongs to `list[i]` and holds zeros. With `absolute`, also the sums of
  // |d loss / d mean| of each pixel, [count, 2].
  void (*pull)(const Tile<T>& tile, const T* d_image, const T* d_alpha, Slot<T>* const* slots,
               T* const* absolute, T* d_background);
};

// Flushes denormals on this thread for as long as it lives: faint splats are full of them.
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
