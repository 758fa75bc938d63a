// The operators project and project_backward, which project Gaussians into every view and evaluate
// their colours, as defined in esd_splat/scene/rasterize/reference.py.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/bins.h"
#include "cpu/geometry.h"
#include "cpu/harmonics.h"
#include "ops.h"

namespace esd {
namespace {

template <class T>
T log_sigmoid(T x) {
  return std::min(x, T(0)) - std::log1p(std::exp(-std::abs(x)));
}

template <class T>
bool finite(const T* x, int64_t count) {
  T zero = 0;  // becomes NaN if a value is not finite
  for (int64_t i = 0; i < count; i++) zero += x[i] * T(0);
  return zero == 0;
}

template <class T>
struct Inputs {
  const T *means, *quats, *log_scales, *opacity_logits, *sh0, *shN;
  int64_t count, views, bands;  // `bands` is the number of coefficients in shN
  std::vector<Camera<T>> cameras;

  World<T> world(int64_t i) const {
    const T *m = means + 3 * i, *s = log_scales + 3 * i, *raw = quats + 4 * i;
    World<T> w;
    T variance = 0, square = 0;
    for (int c = 0; c < 3; c++) {
      w.scale[c] = std::exp(s[c]);
      variance += w.scale[c] * w.scale[c];
    }
    for (int c = 0; c < 4; c++) square += raw[c] * raw[c];
    w.drawable = finite(m, 3) && finite(s, 3) && finite(opacity_logits + i, 1) &&
                 finite(sh0 + 3 * i, 3) && finite(shN + 3 * bands * i, 3 * bands) &&
                 std::isfinite(variance) && std::isfinite(square) && square > 0;
    if (!w.drawable) return w;
    w.over_length = 1 / std::max(std::sqrt(square), T(1e-12));
    for (int c = 0; c < 4; c++) w.q[c] = raw[c] * w.over_length;
    const T a = w.q[0], x = w.q[1], y = w.q[2], z = w.q[3];
    w.rotation[0] = {1 - 2 * (y * y + z * z), 2 * (x * y + a * z), 2 * (x * z - a * y)};
    w.rotation[1] = {2 * (x * y - a * z), 1 - 2 * (x * x + z * z), 2 * (y * z + a * x)};
    w.rotation[2] = {2 * (x * z + a * y), 2 * (y * z - a * x), 1 - 2 * (x * x + y * y)};
    for (int c = 0; c < 3; c++) w.axis[c] = w.scale[c] * w.rotation[c];
    w.mean = {m[0], m[1], m[2]};
    w.log_opacity = log_sigmoid(opacity_logits[i]);
    return w;
  }
};

using Projected = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Pulled = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class T>
Inputs<T> inputs_of(const Tensor& means, const Tensor& quats, const Tensor& log_scales,
                    const Tensor& opacity_logits, const Tensor& sh0, const Tensor& shN,
                    const Tensor& viewmats, const Tensor& Ks, int64_t width, int64_t height) {
  Inputs<T> in{data<T>(means), data<T>(quats),  data<T>(log_scales), data<T>(opacity_logits),
               data<T>(sh0),   data<T>(shN),    means.size(0),       viewmats.size(0),
               shN.size(1),    {}};
  for (int64_t b = 0; b < in.views; b++)
    in.cameras.emplace_back(data<T>(viewmats) + 16 * b, data<T>(Ks) + 9 * b, width, height);
  return in;
}

template <class T>
Projected project_all(const Inputs<T>& in, const Tensor& like, int64_t width, int64_t height) {
  auto empty = [&](std::vector<int64_t> shape) { return torch::stable::new_empty(like, shape); };
  Tensor means2d = empty({in.views, in.count, 2}), conics = empty({in.views, in.count, 3});
  Tensor colors = empty({in.views, in.count, 3}), halves = empty({in.views, in.count, 2});
  Tensor depths = empty({in.views, in.count}), log_opacities = empty({in.count});
  Tensor visible = torch::stable::new_empty(like, {in.views, in.count}, ScalarType::Bool);
  T *m = data<T>(means2d), *q = data<T>(conics), *rgb = data<T>(colors), *half = data<T>(halves),
    *depth = data<T>(depths), *opacity = data<T>(log_opacities);
  bool* shown = data<bool>(visible);
  parallel(in.count, 512, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; g++) {
      const World<T> w = in.world(g);
      opacity[g] = w.drawable ? w.log_opacity : 0;
      const bool solid = w.drawable && std::exp(w.log_opacity) >= T(MIN_ALPHA);
      const T reach = solid ? std::max(2 * (w.log_opacity - std::log(T(MIN_ALPHA))), T(0)) : 0;
      for (int64_t b = 0; b < in.views; b++) {
        const int64_t i = b * in.count + g;
        m[2 * i] = m[2 * i + 1] = q[3 * i] = q[3 * i + 1] = q[3 * i + 2] = depth[i] = 0;
        rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = 0;
        half[2 * i] = half[2 * i + 1] = -1;
        shown[i] = false;
        if (!w.drawable) continue;
        const Camera<T>& c = in.cameras[b];
        const Seen<T> s(w, c);
        if (!s.drawn) continue;
        const T x = c.fx * s.p.x / s.p.z + c.cx, y = c.fy * s.p.y / s.p.z + c.cy;
        m[2 * i] = x, m[2 * i + 1] = y, depth[i] = s.p.z;
        q[3 * i] = s.yy / s.determinant, q[3 * i + 1] = -s.xy / s.determinant;
        q[3 * i + 2] = s.xx / s.determinant;
        const V3<T> d = w.mean - c.eye;
        T direction[3] = {d.x, d.y, d.z};
        color(in.sh0 + 3 * g, in.shN + 3 * in.bands * g, in.bands, direction, rgb + 3 * i);
        if (!solid) continue;
        const T hx = std::sqrt(reach * s.xx), hy = std::sqrt(reach * s.yy);
        half[2 * i] = hx, half[2 * i + 1] = hy;
        shown[i] = x + std::ceil(hx) > 0 && x - std::ceil(hx) < width && y + std::ceil(hy) > 0 &&
                   y - std::ceil(hy) < height;
      }
    }
  });
  return {means2d, conics, colors, log_opacities, halves, depths, visible};
}

template <class T>
struct Upstream {
  const T *means2d, *conics, *colors, *log_opacities;
};

// Adds the gradients from one view to those of the mean, axes and harmonics of Gaussian `g`, whose
// row in the upstream gradients is `i`.
template <class T>
void pull_view(const Inputs<T>& in, const World<T>& w, const Camera<T>& c, const Upstream<T>& up,
               int64_t g, int64_t i, V3<T>& d_mean, V3<T>* d_axis, T* d_sh0, T* d_shN) {
  const Seen<T> s(w, c);
  if (!s.drawn) return;
  const T* du = up.means2d + 2 * i;
  const T* dq = up.conics + 3 * i;
  // Gradient of the inverse Q of a symmetric matrix: d cov = -Q (d Q) Q.
  const T A = s.yy / s.determinant, B = -s.xy / s.determinant, C = s.xx / s.determinant;
  const T half = dq[1] / 2;
  const T ax = A * dq[0] + B * half, ay = A * half + B * dq[2];
  const T bx = B * dq[0] + C * half, by = B * half + C * dq[2];
  const T xx = -(ax * A + ay * B), xy = -(ax * B + ay * C), yy = -(bx * B + by * C);
  const V3<T> d_row_x = T(2) * (xx * s.row_x + xy * s.row_y);
  const V3<T> d_row_y = T(2) * (xy * s.row_x + yy * s.row_y);

  const T z = s.p.z, gx = c.fx / z, gy = c.fy / z;
  const V3<T> d_right = gx * d_row_x, d_down = gy * d_row_y;
  const V3<T> d_forward = T(-1) * (s.u * d_right + s.v * d_down);
  const T d_u = -dot(s.forward, d_right), d_v = -dot(s.forward, d_down);
  V3<T> d_p = {gx * du[0], gy * du[1], 0};
  d_p.z = -(d_p.x * s.p.x + d_p.y * s.p.y) / z;
  d_p.z -= (dot(s.row_x, d_row_x) + dot(s.row_y, d_row_y)) / z;
  const T u = s.p.x / z, v = s.p.y / z;
  if (u >= c.low_x && u <= c.high_x) d_p.x += d_u / z, d_p.z -= d_u * u / z;
  if (v >= c.low_y && v <= c.high_y) d_p.y += d_v / z, d_p.z -= d_v * v / z;
  d_mean = d_mean + c.to_world(d_p);
  const T* r = &d_right.x;
  const T* d = &d_down.x;
  const T* f = &d_forward.x;
  for (int k = 0; k < 3; k++) d_axis[k] = d_axis[k] + c.to_world({r[k], d[k], f[k]});

  const V3<T> from = w.mean - c.eye;
  T direction[3] = {from.x, from.y, from.z}, d_direction[3] = {};
  pull_color(in.sh0 + 3 * g, in.shN + 3 * in.bands * g, in.bands, direction, up.colors + 3 * i,
             d_sh0, d_shN, d_direction);
  d_mean = d_mean + V3<T>{d_direction[0], d_direction[1], d_direction[2]};
}

// Propagates the gradients of the axes R S to the quaternion and the log scales.
template <class T>
void pull_axes(const World<T>& w, const V3<T>* d_axis, T* d_quat, T* d_log_scales) {
  V3<T> R[3];
  for (int k = 0; k < 3; k++) {
    d_log_scales[k] = w.scale[k] * dot(w.rotation[k], d_axis[k]);
    R[k] = w.scale[k] * d_axis[k];
  }
  const T a = w.q[0], x = w.q[1], y = w.q[2], z = w.q[3];
  // R[column].row are the gradients of the nine entries of the rotation matrix.
  const T d[4] = {
      2 * (x * (R[1].z - R[2].y) + y * (R[2].x - R[0].z) + z * (R[0].y - R[1].x)),
      2 * (a * (R[1].z - R[2].y) + y * (R[1].x + R[0].y) + z * (R[2].x + R[0].z)) -
          4 * x * (R[1].y + R[2].z),
      2 * (a * (R[2].x - R[0].z) + x * (R[1].x + R[0].y) + z * (R[2].y + R[1].z)) -
          4 * y * (R[0].x + R[2].z),
      2 * (a * (R[0].y - R[1].x) + x * (R[2].x + R[0].z) + y * (R[2].y + R[1].z)) -
          4 * z * (R[0].x + R[1].y)};
  // Propagate through the normalization, unless the length was clamped.
  const T along = w.over_length < T(1e12) ? d[0] * a + d[1] * x + d[2] * y + d[3] * z : 0;
  for (int k = 0; k < 4; k++) d_quat[k] = (d[k] - along * w.q[k]) * w.over_length;
}

template <class T>
Pulled pull_all(const Inputs<T>& in, const Upstream<T>& up, const Tensor& means,
                const Tensor& quats, const Tensor& log_scales, const Tensor& opacity_logits,
                const Tensor& sh0, const Tensor& shN) {
  auto zeros = [](const Tensor& like) {
    Tensor x = torch::stable::empty_like(like);
    return torch::stable::zero_(x);
  };
  Tensor d_means = zeros(means), d_quats = zeros(quats), d_log_scales = zeros(log_scales);
  Tensor d_logits = zeros(opacity_logits), d_sh0 = zeros(sh0), d_shN = zeros(shN);
  parallel(in.count, 512, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; g++) {
      const World<T> w = in.world(g);
      if (!w.drawable) continue;
      V3<T> d_mean{}, d_axis[3]{};
      for (int64_t b = 0; b < in.views; b++)
        pull_view(in, w, in.cameras[b], up, g, b * in.count + g, d_mean, d_axis,
                  data<T>(d_sh0) + 3 * g, data<T>(d_shN) + 3 * in.bands * g);
      T* m = data<T>(d_means) + 3 * g;
      m[0] = d_mean.x, m[1] = d_mean.y, m[2] = d_mean.z;
      pull_axes(w, d_axis, data<T>(d_quats) + 4 * g, data<T>(d_log_scales) + 3 * g);
      // d log sigmoid(x) / dx = sigmoid(-x)
      data<T>(d_logits)[g] = up.log_opacities[g] / (1 + std::exp(in.opacity_logits[g]));
    }
  });
  return {d_means, d_quats, d_log_scales, d_logits, d_sh0, d_shN};
}

void check(const Tensor& means, const Tensor& quats, const Tensor& log_scales,
           const Tensor& opacity_logits, const Tensor& sh0, const Tensor& shN,
           const Tensor& viewmats, const Tensor& Ks) {
  const ScalarType type = means.scalar_type();
  if (type != ScalarType::Float && type != ScalarType::Double)
    fail("means: must be float32 or float64, got ", name_of(type));
  if (means.dim() != 2) fail("means: must have shape [n, 3], got ", shape_of(means));
  if (viewmats.dim() != 3) fail("viewmats: must have shape [b, 4, 4], got ", shape_of(viewmats));
  if (shN.dim() != 3) fail("shN: must have shape [n, k, 3], got ", shape_of(shN));
  const int64_t n = means.size(0), k = shN.size(1), b = viewmats.size(0);
  if (k != 0 && k != 3 && k != 8 && k != 15) fail("shN: must hold 0, 3, 8 or 15 bands, got ", k);
  if (n > std::numeric_limits<int32_t>::max()) fail("means: at most 2^31 - 1 Gaussians, got ", n);
  expect("means", means, type, {n, 3});
  expect("quats", quats, type, {n, 4});
  expect("log_scales", log_scales, type, {n, 3});
  expect("opacity_logits", opacity_logits, type, {n});
  expect("sh0", sh0, type, {n, 1, 3});
  expect("shN", shN, type, {n, k, 3});
  expect("viewmats", viewmats, type, {b, 4, 4});
  expect("Ks", Ks, type, {b, 3, 3});
}

Projected project(const Tensor means, const Tensor quats, const Tensor log_scales,
                  const Tensor opacity_logits, const Tensor sh0, const Tensor shN,
                  const Tensor viewmats, const Tensor Ks, int64_t width, int64_t height) {
  check(means, quats, log_scales, opacity_logits, sh0, shN, viewmats, Ks);
  auto run = [&](auto zero) {
    using T = decltype(zero);
    return project_all<T>(inputs_of<T>(means, quats, log_scales, opacity_logits, sh0, shN,
                                       viewmats, Ks, width, height),
                          means, width, height);
  };
  return means.scalar_type() == ScalarType::Float ? run(0.f) : run(0.0);
}

Pulled project_backward(const Tensor means, const Tensor quats, const Tensor log_scales,
                        const Tensor opacity_logits, const Tensor sh0, const Tensor shN,
                        const Tensor viewmats, const Tensor Ks, const Tensor d_means2d,
                        const Tensor d_conics, const Tensor d_colors,
                        const Tensor d_log_opacities, int64_t width, int64_t height) {
  check(means, quats, log_scales, opacity_logits, sh0, shN, viewmats, Ks);
  const int64_t b = viewmats.size(0), n = means.size(0);
  const ScalarType type = means.scalar_type();
  expect("d_means2d", d_means2d, type, {b, n, 2});
  expect("d_conics", d_conics, type, {b, n, 3});
  expect("d_colors", d_colors, type, {b, n, 3});
  expect("d_log_opacities", d_log_opacities, type, {n});
  auto run = [&](auto zero) {
    using T = decltype(zero);
    return pull_all<T>(inputs_of<T>(means, quats, log_scales, opacity_logits, sh0, shN, viewmats,
                                    Ks, width, height),
                       {data<T>(d_means2d), data<T>(d_conics), data<T>(d_colors),
                        data<T>(d_log_opacities)},
                       means, quats, log_scales, opacity_logits, sh0, shN);
  };
  return type == ScalarType::Float ? run(0.f) : run(0.0);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(esd_splat, m) {
  m.def(
      "project(Tensor means, Tensor quats, Tensor log_scales, Tensor opacity_logits, Tensor sh0, "
      "Tensor shN, Tensor viewmats, Tensor Ks, int width, int height) -> (Tensor means2d, "
      "Tensor conics, Tensor colors, Tensor log_opacities, Tensor halves, Tensor depths, "
      "Tensor visible)");
  m.def(
      "project_backward(Tensor means, Tensor quats, Tensor log_scales, Tensor opacity_logits, "
      "Tensor sh0, Tensor shN, Tensor viewmats, Tensor Ks, Tensor d_means2d, Tensor d_conics, "
      "Tensor d_colors, Tensor d_log_opacities, int width, int height) -> (Tensor d_means, "
      "Tensor d_quats, Tensor d_log_scales, Tensor d_opacity_logits, Tensor d_sh0, Tensor d_shN)");
}

STABLE_TORCH_LIBRARY_IMPL(esd_splat, CPU, m) {
  m.impl("project", TORCH_BOX(&project));
  m.impl("project_backward", TORCH_BOX(&project_backward));
}

}  // namespace esd
