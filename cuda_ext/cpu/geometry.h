// A camera, a Gaussian in the world, and a Gaussian in the view of a camera.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cpu/splat.h"

namespace esd {

template <class T>
struct V3 {
  T x, y, z;
};
template <class T>
V3<T> operator+(V3<T> a, V3<T> b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
template <class T>
V3<T> operator-(V3<T> a, V3<T> b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
template <class T>
V3<T> operator*(T s, V3<T> a) { return {s * a.x, s * a.y, s * a.z}; }
template <class T>
T dot(V3<T> a, V3<T> b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
template <class T>
V3<T> cross(V3<T> a, V3<T> b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

template <class T>
struct Camera {
  V3<T> right, down, forward;  // rows of the rotation from world to camera
  V3<T> t, eye;
  T fx, fy, cx, cy, low_x, high_x, low_y, high_y;  // low and high bound x / z and y / z

  Camera(const T* m, const T* K, int64_t width, int64_t height)
      : right{m[0], m[1], m[2]}, down{m[4], m[5], m[6]}, forward{m[8], m[9], m[10]},
        t{m[3], m[7], m[11]}, fx(K[0]), fy(K[4]), cx(K[2]), cy(K[5]) {
    eye = T(-1) * to_world(t);
    const T mx = T(FRUSTUM_MARGIN * 0.5) * width, my = T(FRUSTUM_MARGIN * 0.5) * height;
    low_x = -(cx + mx) / fx, high_x = (width - cx + mx) / fx;
    low_y = -(cy + my) / fy, high_y = (height - cy + my) / fy;
  }
  V3<T> to_camera(V3<T> p) const { return V3<T>{dot(right, p), dot(down, p), dot(forward, p)} + t; }
  V3<T> to_world(V3<T> d) const { return d.x * right + d.y * down + d.z * forward; }
};

// One Gaussian in the world, with the values that all views share.
template <class T>
struct World {
  V3<T> mean, axis[3];  // columns of the covariance factor R S
  V3<T> rotation[3];    // columns of R
  T scale[3], q[4], over_length, log_opacity;
  bool drawable;
};

// One Gaussian in one view.
template <class T>
struct Seen {
  V3<T> p;                     // centre in camera space
  T u, v;                      // x / z and y / z, clamped for the Jacobian
  V3<T> right, down, forward;  // rows of R_camera R S
  V3<T> row_x, row_y;          // rows of J R_camera R S
  T xx, xy, yy, determinant;
  bool drawn;

  Seen(const World<T>& w, const Camera<T>& c) : drawn(false) {
    p = c.to_camera(w.mean);
    if (!(p.z > T(NEAR))) return;
    u = std::min(std::max(p.x / p.z, c.low_x), c.high_x);
    v = std::min(std::max(p.y / p.z, c.low_y), c.high_y);
    right = {dot(c.right, w.axis[0]), dot(c.right, w.axis[1]), dot(c.right, w.axis[2])};
    down = {dot(c.down, w.axis[0]), dot(c.down, w.axis[1]), dot(c.down, w.axis[2])};
    forward = {dot(c.forward, w.axis[0]), dot(c.forward, w.axis[1]), dot(c.forward, w.axis[2])};
    row_x = (c.fx / p.z) * (right - u * forward);
    row_y = (c.fy / p.z) * (down - v * forward);
    const T size = dot(row_x, row_x) + dot(row_y, row_y);
    if (!std::isfinite(size * size)) return;
    drawn = true;
    // Sum the determinant from positive terms, as |x|^2 |y|^2 - (x . y)^2 cancels for needles.
    xx = dot(row_x, row_x), xy = dot(row_x, row_y), yy = dot(row_y, row_y);
    const V3<T> area = cross(row_x, row_y);
    const T blur = T(BLUR_PX2);
    determinant = dot(area, area) + blur * (xx + yy) + blur * blur;
    xx += blur, yy += blur;
  }
};

}  // namespace esd
