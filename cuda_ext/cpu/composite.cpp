// The operators composite and composite_backward, which render images of projected Gaussians, all
// views at once. The formula is in esd_splat/scene/rasterize/tiles.py, the code for one tile in
// composite.inc.
#include <limits>

#include "cpu/bins.h"
#include "cpu/isa.h"
#include "cpu/splat.h"
#include "ops.h"

namespace esd {

namespace {

constexpr double SLACK_PX = 0.01;       // so that rounding never culls a visible Gaussian
constexpr double SLACK_SHARE = 1e-4;

struct Size {
  int64_t views, count, width, height, tiles_x, tiles_y;
  int64_t tiles() const { return tiles_x * tiles_y; }
};

Size check(const Tensor& means2d, const Tensor& conics, const Tensor& colors,
           const Tensor& log_opacities, const Tensor& halves, const Tensor& background,
           int64_t width, int64_t height) {
  const ScalarType type = means2d.scalar_type();
  if (type != ScalarType::Float && type != ScalarType::Double)
    fail("means2d: must be float32 or float64, got ", name_of(type));
  if (means2d.dim() != 3) fail("means2d: must have shape [views, n, 2], got ", shape_of(means2d));
  const int64_t b = means2d.size(0), n = means2d.size(1);
  expect("means2d", means2d, type, {b, n, 2});
  expect("conics", conics, type, {b, n, 3});
  expect("colors", colors, type, {b, n, 3});
  expect("log_opacities", log_opacities, type, {n});
  expect("halves", halves, type, {b, n, 2});
  expect("background", background, type, {b, 3});
  if (width < 1 || height < 1 || width > 1 << 15 || height > 1 << 15)
    fail("width and height: must be in [1, 32768], got ", width, " and ", height);
  if (n > std::numeric_limits<int32_t>::max()) fail("means2d: at most 2^31 - 1 Gaussians, got ", n);
  return {b, n, width, height, (width + TILE - 1) / TILE, (height + TILE - 1) / TILE};
}

// Range of tiles that have a pixel centre inside [low, high].
template <class T>
std::pair<int32_t, int32_t> tiles_between(T low, T high, int64_t size, int64_t tiles) {
  const T first = T(0.5), last = size - T(0.5);
  if (!(low <= last && high >= first)) return {0, 0};  // also if one of them is NaN
  low = low > first ? low : first;
  high = high < last ? high : last;
  const int64_t begin = int64_t(std::ceil((low - first - (TILE - 1)) / TILE));
  const int64_t end = int64_t(std::floor((high - first) / TILE)) + 1;
  return {int32_t(std::max<int64_t>(begin, 0)), int32_t(std::min(end, tiles))};
}

template <class T>
void pack(const Size& size, const Tensor& means2d, const Tensor& conics, const Tensor& colors,
          const Tensor& log_opacities, const Tensor& halves, const T* depths, Splat<T>* splats,
          Rect* rects) {
  const T *m = data<T>(means2d), *q = data<T>(conics), *c = data<T>(colors),
          *o = data<T>(log_opacities), *half = data<T>(halves);
  parallel(size.views * size.count, 2048, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const T hx = half[2 * i] * T(1 + SLACK_SHARE) + T(SLACK_PX);
      const T hy = half[2 * i + 1] * T(1 + SLACK_SHARE) + T(SLACK_PX);
      const T x = m[2 * i], y = m[2 * i + 1], L = T(LOG2E);
      splats[i] = {x, y, q[3 * i] * (L / 2), q[3 * i + 1] * L, q[3 * i + 2] * (L / 2),
                   o[i % size.count] * L, c[3 * i], c[3 * i + 1], c[3 * i + 2], hx, hy,
                   depths ? depths[i] : 0};
      rects[i] = {0, 0, 0, 0};
      if (!(half[2 * i] >= 0 && half[2 * i + 1] >= 0)) continue;  // not drawn
      auto [x0, x1] = tiles_between(x - hx, x + hx, size.width, size.tiles_x);
      auto [y0, y1] = tiles_between(y - hy, y + hy, size.height, size.tiles_y);
      if (x1 > x0 && y1 > y0) rects[i] = {x0, y0, x1, y1};
    }
  });
}

template <class T>
Tile<T> tile_at(int64_t index, const Size& size, const Splat<T>* splats, const Tensor& rows,
                const Tensor& offsets, const Tensor& background, const Tensor& last,
                const Tensor& left) {
  const int64_t view = index / size.tiles(), t = index % size.tiles();
  const int64_t* cut = data<int64_t>(offsets) + index;
  return {int(t % size.tiles_x),
          int(t / size.tiles_x),
          int(size.width),
          int(size.height),
          splats + view * size.count,
          data<int32_t>(rows) + cut[0],
          cut[1] - cut[0],
          data<T>(background) + 3 * view,
          data<int32_t>(last) + index * PIXELS,
          data<T>(left) + index * PIXELS};
}

using Drawn = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class T>
Drawn draw_all(const Size& size, const Tensor& means2d, const Tensor& conics, const Tensor& colors,
               const Tensor& log_opacities, const Tensor& halves, const Tensor& depths,
               const Tensor& background, bool median) {
  std::vector<Splat<T>> splats(size.views * size.count);
  std::vector<Rect> rects(size.views * size.count);
  pack<T>(size, means2d, conics, colors, log_opacities, halves, median ? data<T>(depths) : nullptr,
          splats.data(), rects.data());
  int64_t pairs = 0;
  for (const Rect& r : rects) pairs += r.area();
  if (pairs > std::numeric_limits<int32_t>::max())
    fail("too many overlaps: the Gaussians touch ", pairs, " tiles in ", size.views,
         " views, and 2^31 - 1 is the most; draw fewer views at a time, or smaller Gaussians");
  auto [sorted, begins] =
      sort_by_depth(data<T>(depths), rects.data(), size.views, size.count);
  Bins bins = fill_bins(sorted, begins, rects.data(), size.views, size.count, size.tiles_x,
                        size.tiles_y, means2d);
  auto empty = [&](std::initializer_list<int64_t> shape) {
    return torch::stable::new_empty(means2d, std::vector<int64_t>(shape));
  };
  const int64_t tiles = size.views * size.tiles(), plane = size.width * size.height;
  Tensor images = empty({size.views, 3, size.height, size.width});
  Tensor alphas = empty({size.views, size.height, size.width});
  Tensor medians = empty({median ? size.views : 0, size.height, size.width});
  Tensor left = empty({tiles, PIXELS});
  Tensor last = torch::stable::new_empty(means2d, {tiles, PIXELS}, ScalarType::Int);
  const Compositor<T>& kernels = compositor<T>();
  parallel(tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t view = i / size.tiles();
      kernels.draw(
          tile_at<T>(i, size, splats.data(), bins.rows, bins.offsets, background, last, left),
          data<T>(images) + view * 3 * plane, data<T>(alphas) + view * plane,
          median ? data<T>(medians) + view * plane : nullptr);
    }
  });
  return {images, alphas, bins.rows, bins.offsets, last, left, medians};
}

Drawn composite(const Tensor means2d, const Tensor conics, const Tensor colors,
                const Tensor log_opacities, const Tensor halves, const Tensor depths,
                const Tensor background, int64_t width, int64_t height, bool median) {
  const Size size =
      check(means2d, conics, colors, log_opacities, halves, background, width, height);
  expect("depths", depths, means2d.scalar_type(), {size.views, size.count});
  return means2d.scalar_type() == ScalarType::Float
             ? draw_all<float>(size, means2d, conics, colors, log_opacities, halves, depths,
                               background, median)
             : draw_all<double>(size, means2d, conics, colors, log_opacities, halves, depths,
                                background, median);
}

// Sums the gradients that each Gaussian gets from its tiles, in the order of the tiles.
template <class T>
void gather(const Size& size, const std::vector<Splat<T>>& splats, const std::vector<Slot<T>>& slots,
            const std::vector<T>& absolute, const std::vector<int64_t>& starts, T* d_means2d,
            T* d_conics, T* d_colors, T* d_log_opacities, T* abs2d) {
  parallel(size.count, 512, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; g++) {
      T level = 0;
      for (int64_t view = 0; view < size.views; view++) {
        const int64_t i = view * size.count + g;
        Slot<T> s{};
        for (int64_t k = starts[i]; k < starts[i + 1]; k++) {
          const Slot<T>& x = slots[k];
          s = {s.slope + x.slope, s.x + x.x,   s.y + x.y, s.xx + x.xx, s.xy + x.xy,
               s.yy + x.yy,       s.r + x.r,   s.g + x.g, s.b + x.b};
          if (abs2d)
            for (int c = 0; c < 2; c++) abs2d[2 * i + c] += absolute[2 * k + c];
        }
        const T A = splats[i].A * T(2 / LOG2E), B = splats[i].B / T(LOG2E),
                C = splats[i].C * T(2 / LOG2E);
        d_means2d[2 * i] = s.slope == 0 && s.x == 0 && s.y == 0 ? 0 : A * s.x + B * s.y;
        d_means2d[2 * i + 1] = s.slope == 0 && s.x == 0 && s.y == 0 ? 0 : B * s.x + C * s.y;
        d_conics[3 * i] = -s.xx / 2, d_conics[3 * i + 1] = -s.xy, d_conics[3 * i + 2] = -s.yy / 2;
        d_colors[3 * i] = s.r, d_colors[3 * i + 1] = s.g, d_colors[3 * i + 2] = s.b;
        level += s.slope;
      }
      d_log_opacities[g] = level;
    }
  });
}

using Pulled = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class T>
Pulled pull_all(const Size& size, const Tensor& means2d, const Tensor& conics,
                const Tensor& colors, const Tensor& log_opacities, const Tensor& halves,
                const Tensor& background, const Tensor& rows, const Tensor& offsets,
                const Tensor& last, const Tensor& left, const Tensor& d_images,
                const Tensor& d_alphas, bool absgrad) {
  const int64_t all = size.views * size.count, tiles = size.views * size.tiles();
  const int64_t plane = size.width * size.height;
  std::vector<Splat<T>> splats(all);
  std::vector<Rect> rects(all);
  pack<T>(size, means2d, conics, colors, log_opacities, halves, nullptr, splats.data(),
          rects.data());
  std::vector<int64_t> starts(all + 1, 0);
  for (int64_t i = 0; i < all; i++) starts[i + 1] = starts[i] + rects[i].area();
  const int64_t pairs = starts[all];
  if (pairs != rows.size(0)) fail("rows: not of this scene");
  std::vector<Slot<T>> slots(pairs);
  std::vector<T> absolute(absgrad ? 2 * pairs : 0);
  std::vector<T> d_background(3 * tiles);
  const Compositor<T>& kernels = compositor<T>();
  parallel(tiles, 1, [&](int64_t begin, int64_t end) {
    std::vector<Slot<T>*> to;
    std::vector<T*> to_absolute;
    for (int64_t i = begin; i < end; i++) {
      const Tile<T> tile =
          tile_at<T>(i, size, splats.data(), rows, offsets, background, last, left);
      const int64_t view = i / size.tiles();
      to.resize(tile.count);
      to_absolute.resize(absgrad ? tile.count : 0);
      for (int64_t j = 0; j < tile.count; j++) {
        const int64_t row = view * size.count + tile.list[j];
        const Rect& r = rects[row];
        const int64_t k = starts[row] + int64_t(tile.row - r.y0) * (r.x1 - r.x0) + tile.column - r.x0;
        to[j] = slots.data() + k;
        if (absgrad) to_absolute[j] = absolute.data() + 2 * k;
      }
      kernels.pull(tile, data<T>(d_images) + view * 3 * plane, data<T>(d_alphas) + view * plane,
                   to.data(), absgrad ? to_absolute.data() : nullptr, d_background.data() + 3 * i);
    }
  });
  Tensor d_means2d = torch::stable::empty_like(means2d), d_conics = torch::stable::empty_like(conics);
  Tensor d_colors = torch::stable::empty_like(colors);
  Tensor d_log_opacities = torch::stable::empty_like(log_opacities);
  Tensor d_back = torch::stable::new_zeros(background, {size.views, 3});
  Tensor abs2d = torch::stable::new_zeros(means2d, {absgrad ? size.views : 0, size.count, 2});
  gather<T>(size, splats, slots, absolute, starts, data<T>(d_means2d), data<T>(d_conics),
            data<T>(d_colors), data<T>(d_log_opacities), absgrad ? data<T>(abs2d) : nullptr);
  for (int64_t i = 0; i < tiles; i++)
    for (int c = 0; c < 3; c++)
      data<T>(d_back)[i / size.tiles() * 3 + c] += d_background[3 * i + c];
  return {d_means2d, d_conics, d_colors, d_log_opacities, d_back, abs2d};
}

Pulled composite_backward(const Tensor means2d, const Tensor conics, const Tensor colors,
                          const Tensor log_opacities, const Tensor halves,
                          const Tensor background, const Tensor rows, const Tensor offsets,
                          const Tensor last, const Tensor left, const Tensor d_images,
                          const Tensor d_alphas, bool absgrad) {
  if (d_alphas.dim() != 3) fail("d_alphas: must have shape [views, h, w], got ", shape_of(d_alphas));
  const int64_t h = d_alphas.size(1), w = d_alphas.size(2);
  const Size size = check(means2d, conics, colors, log_opacities, halves, background, w, h);
  const ScalarType type = means2d.scalar_type();
  const int64_t tiles = size.views * size.tiles();
  expect("rows", rows, ScalarType::Int, {ANY});
  expect("offsets", offsets, ScalarType::Long, {tiles + 1});
  expect("last", last, ScalarType::Int, {tiles, PIXELS});
  expect("left", left, type, {tiles, PIXELS});
  expect("d_images", d_images, type, {size.views, 3, h, w});
  expect("d_alphas", d_alphas, type, {size.views, h, w});
  auto run = type == ScalarType::Float ? pull_all<float> : pull_all<double>;
  return run(size, means2d, conics, colors, log_opacities, halves, background, rows, offsets, last,
             left, d_images, d_alphas, absgrad);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(esd_splat, m) {
  m.def(
      "composite(Tensor means2d, Tensor conics, Tensor colors, Tensor log_opacities, "
      "Tensor halves, Tensor depths, Tensor background, int width, int height, bool median) -> "
      "(Tensor images, Tensor alphas, Tensor rows, Tensor offsets, Tensor last, Tensor left, "
      "Tensor medians)");
  m.def(
      "composite_backward(Tensor means2d, Tensor conics, Tensor colors, Tensor log_opacities, "
      "Tensor halves, Tensor background, Tensor rows, Tensor offsets, Tensor last, Tensor left, "
      "Tensor d_images, Tensor d_alphas, bool absgrad) -> (Tensor d_means2d, Tensor d_conics, "
      "Tensor d_colors, Tensor d_log_opacities, Tensor d_background, Tensor abs2d)");
}

STABLE_TORCH_LIBRARY_IMPL(esd_splat, CPU, m) {
  m.impl("composite", TORCH_BOX(&composite));
  m.impl("composite_backward", TORCH_BOX(&composite_backward));
}

}  // namespace esd
