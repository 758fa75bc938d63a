// The colour of a Gaussian seen from a direction, and its derivatives: real spherical harmonics of
// degree 0 to 3 with the signs and the order of 3DGS files, as in esd_splat/scene/gaussians.py.
#pragma once

#include <cmath>
#include <cstdint>

namespace esd {

constexpr double SH_C0 = 0.28209479177387814;
constexpr double SH_C1 = 0.4886025119029199;
constexpr double SH_C2[3] = {1.0925484305920792, 0.31539156525252005, 0.5462742152960396};
constexpr double SH_C3[4] = {0.5900435899266435, 2.890611442640554, 0.4570457994644658,
                             0.3731763325901154};

// Evaluates the harmonics of degree 1 and up at a unit vector, and their derivatives if SLOPES.
template <class T, bool SLOPES>
void harmonics(T x, T y, T z, int64_t bands, T* Y, T (*dY)[3]) {
  const T c1 = T(SH_C1), a = T(SH_C2[0]), b = T(SH_C2[1]), c = T(SH_C2[2]);
  const T d = T(SH_C3[0]), e = T(SH_C3[1]), f = T(SH_C3[2]), h = T(SH_C3[3]);
  const T xx = x * x, yy = y * y, zz = z * z;
  auto set = [&](int k, T value, T dx, T dy, T dz) {
    Y[k] = value;
    if constexpr (SLOPES) dY[k][0] = dx, dY[k][1] = dy, dY[k][2] = dz;
  };
  if (bands < 3) return;
  set(0, -c1 * y, 0, -c1, 0);
  set(1, c1 * z, 0, 0, c1);
  set(2, -c1 * x, -c1, 0, 0);
  if (bands < 8) return;
  set(3, a * x * y, a * y, a * x, 0);
  set(4, -a * y * z, 0, -a * z, -a * y);
  set(5, b * (2 * zz - xx - yy), -2 * b * x, -2 * b * y, 4 * b * z);
  set(6, -a * x * z, -a * z, 0, -a * x);
  set(7, c * (xx - yy), 2 * c * x, -2 * c * y, 0);
  if (bands < 15) return;
  set(8, -d * y * (3 * xx - yy), -6 * d * x * y, -3 * d * (xx - yy), 0);
  set(9, e * x * y * z, e * y * z, e * x * z, e * x * y);
  set(10, -f * y * (4 * zz - xx - yy), 2 * f * x * y, -f * (4 * zz - xx - 3 * yy), -8 * f * y * z);
  set(11, h * z * (2 * zz - 3 * xx - 3 * yy), -6 * h * x * z, -6 * h * y * z,
      h * (6 * zz - 3 * xx - 3 * yy));
  set(12, -f * x * (4 * zz - xx - yy), -f * (4 * zz - 3 * xx - yy), 2 * f * x * y, -8 * f * x * z);
  set(13, e / 2 * z * (xx - yy), e * x * z, -e * y * z, e / 2 * (xx - yy));
  set(14, -d * x * (xx - 3 * yy), -3 * d * (xx - yy), 6 * d * x * y, 0);
}

// Writes max(0, 0.5 + sum c_k Y_k) to `rgb`. The vector `from` points from the camera centre to the
// mean and may have any length.
template <class T>
void color(const T* sh0, const T* shN, int64_t bands, const T* from, T* rgb) {
  for (int c = 0; c < 3; c++) rgb[c] = T(0.5) + T(SH_C0) * sh0[c];
  if (bands) {
    T Y[15];
    const T length =
        std::sqrt(from[0] * from[0] + from[1] * from[1] + from[2] * from[2]);
    const T over = 1 / (length > T(1e-12) ? length : T(1e-12));
    harmonics<T, false>(from[0] * over, from[1] * over, from[2] * over, bands, Y, nullptr);
    for (int64_t k = 0; k < bands; k++)
      for (int c = 0; c < 3; c++) rgb[c] += Y[k] * shN[3 * k + c];
  }
  for (int c = 0; c < 3; c++) rgb[c] = rgb[c] > 0 ? rgb[c] : 0;
}

// Backward of `color`: given d_rgb, adds to the gradients of the coefficients, and sets d_from.
template <class T>
void pull_color(const T* sh0, const T* shN, int64_t bands, const T* from, const T* d_rgb, T* d_sh0,
                T* d_shN, T* d_from) {
  T Y[15], dY[15][3], rgb[3], unit[3] = {}, over = 0;
  for (int c = 0; c < 3; c++) rgb[c] = T(0.5) + T(SH_C0) * sh0[c];
  if (bands) {
    const T length =
        std::sqrt(from[0] * from[0] + from[1] * from[1] + from[2] * from[2]);
    over = 1 / (length > T(1e-12) ? length : T(1e-12));
    for (int c = 0; c < 3; c++) unit[c] = from[c] * over;
    harmonics<T, true>(unit[0], unit[1], unit[2], bands, Y, dY);
    for (int64_t k = 0; k < bands; k++)
      for (int c = 0; c < 3; c++) rgb[c] += Y[k] * shN[3 * k + c];
  }
  T d[3], d_unit[3] = {};
  for (int c = 0; c < 3; c++) {
    d[c] = rgb[c] >= 0 ? d_rgb[c] : 0;
    d_sh0[c] += T(SH_C0) * d[c];
  }
  for (int64_t k = 0; k < bands; k++) {
    T pull = 0;
    for (int c = 0; c < 3; c++) {
      d_shN[3 * k + c] += Y[k] * d[c];
      pull += shN[3 * k + c] * d[c];
    }
    for (int c = 0; c < 3; c++) d_unit[c] += pull * dY[k][c];
  }
  const T along = d_unit[0] * unit[0] + d_unit[1] * unit[1] + d_unit[2] * unit[2];
  for (int c = 0; c < 3; c++) d_from[c] = bands ? (d_unit[c] - along * unit[c]) * over : 0;
}

}  // namespace esd
