// Densification of one row, compiled for the CPU and for CUDA. What it computes is defined in
// esd_splat/densify/growth.py and classify.py, to the bit: transcendental functions are evaluated
// in double precision and rounded once, so the rounding of a particular library hardly ever shows.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define ESD_BOTH __host__ __device__ inline
#else
#define ESD_BOTH inline
#endif

namespace esd {

enum Action : uint8_t { DROP, KEEP, CLONE, SPLIT };

constexpr double SPLIT_SHRINK = 1.6;
constexpr int FIELDS = 6;  // means quats log_scales opacity_logits sh0 shN, in this order
constexpr int MAX_MOMENTS = 2 * FIELDS;

struct Limits {
  double largest, faintest, faintest_to_grow, split_above, grow_ratio;
};

// A tensor with a row of `width` floats per Gaussian.
struct Table {
  float* data;
  int32_t width;
  ESD_BOTH float* row(int64_t i) const { return data + i * width; }
};

// All that moves with a row.
struct Tables {
  Table field[FIELDS], moment[MAX_MOMENTS];
  int32_t moments;
};

// Whether a row has a picture at all: `drawable` of rasterize/base.py.
ESD_BOTH bool drawable(const Tables& t, int64_t i) {
  float zero = 0;
  for (int f = 0; f < FIELDS; f++) {
    const float* x = t.field[f].row(i);
    for (int k = 0; k < t.field[f].width; k++) zero += x[k] * 0.0f;
  }
  const float *q = t.field[1].row(i), *s = t.field[2].row(i);
  const float length = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
  const float variances = expf(2 * s[0]) + expf(2 * s[1]) + expf(2 * s[2]);
  return zero == 0 && length > 0 && length * 0.0f == 0 && variances * 0.0f == 0;
}

ESD_BOTH float largest_scale(const Tables& t, int64_t i) {
  const float* s = t.field[2].row(i);
  return fmaxf(s[0], fmaxf(s[1], s[2]));
}

ESD_BOTH bool keeps(const Tables& t, int64_t i, const Limits& limits) {
  return largest_scale(t, i) <= float(limits.largest) &&
         *t.field[3].row(i) >= float(limits.faintest) && drawable(t, i);
}

// Of an image-plane gradient.
ESD_BOTH float length(const float* xy) {
  const double x = xy[0], y = xy[1];
  return float(sqrt(x * x + y * y));
}

ESD_BOTH double steepness(double gradient, int32_t seen) {
  return gradient / (seen > 1 ? seen : 1);
}

// Of a row that is kept and was seen. `usual` is NaN where no row was, and then nothing grows.
ESD_BOTH Action growth(const Tables& t, int64_t i, double steep, double usual,
                       const Limits& limits) {
  const bool grows = *t.field[3].row(i) >= float(limits.faintest_to_grow) &&
                     steep > limits.grow_ratio * usual;
  if (!grows) return KEEP;
  return largest_scale(t, i) > float(limits.split_above) ? SPLIT : CLONE;
}

// Philox4x32-10 (Salmon et al., SC 2011), and the sum of the eight 16-bit halves of its block:
// densify/random.py.
ESD_BOTH float nearly_normal(uint64_t seed, uint32_t step, uint32_t row, uint32_t copy,
                             uint32_t axis) {
  uint32_t c0 = step, c1 = row, c2 = copy, c3 = axis;
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
    c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
    c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c1 = uint32_t(p1);
    c3 = uint32_t(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const uint32_t words[4] = {c0, c1, c2, c3};
  int32_t total = 0;
  for (uint32_t word : words) total += int32_t(word & 0xFFFF) + int32_t(word >> 16);
  return float(total - 262140) * 0x1.3988e2p-16f;
}

// Logit of 1 - sqrt(1 - o).
ESD_BOTH float halved(float logit) {
  const double x = -double(logit);
  const double log_clear = (fmin(x, 0.0) - log1p(exp(-fabs(x)))) / 2;
  return float(log(-expm1(log_clear)) - log_clear);
}

// The mean of a split's child.
ESD_BOTH void draw_mean(const float* mean, const float* quat, const float* log_scales,
                        uint64_t seed, uint32_t step, uint32_t row, uint32_t copy, float* out) {
  double w = quat[0], x = quat[1], y = quat[2], z = quat[3];
  double length = sqrt(w * w + x * x + y * y + z * z);
  length = length > 1e-12 ? length : 1e-12;
  w /= length, x /= length, y /= length, z /= length;
  double v[3];
  for (int k = 0; k < 3; k++)
    v[k] = exp(double(log_scales[k])) * double(nearly_normal(seed, step, row, copy, k));
  const double R[3][3] = {
      {1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)},
      {2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)},
      {2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)}};
  for (int k = 0; k < 3; k++)
    out[k] = float(double(mean[k]) + (R[k][0] * v[0] + R[k][1] * v[1] + R[k][2] * v[2]));
}

// Where a row's own values and its offspring go.
struct Place {
  int64_t own, birth;  // birth is -1 where none is born
};

// `drops` and `grows` are the dropped and growing rows before this one, `tail_drops` the dropped
// ones before row `count`. Holes are the dropped rows in order, `all_drops` in number.
ESD_BOTH Place place(int64_t row, Action action, int64_t rows, int64_t count, int64_t drops,
                     int64_t grows, int64_t tail_drops, int64_t all_drops, int64_t all_grows,
                     const int64_t* holes) {
  Place to{row, -1};
  if (row >= count) to.own = holes[all_grows + (row - drops) - (count - tail_drops)];
  if (action >= CLONE) to.birth = grows < all_drops ? holes[grows] : rows + (grows - all_drops);
  return to;
}

// Carries out one row's move and growth. `lane` of `lanes` workers, which do each their part of
// every row of every table; what depends on more than one number is lane 0's.
ESD_BOTH void carry_out(const Tables& t, int64_t row, Action action, Place to, uint64_t seed,
                        uint32_t step, int lane, int lanes) {
  const bool births = to.birth >= 0;
  for (int f = 0; f < FIELDS; f++) {
    if (births && (f == 0 || f == 2 || f == 3)) continue;  // means, scales, opacities: below
    const float* from = t.field[f].row(row);
    for (int k = lane; k < t.field[f].width; k += lanes) {
      if (to.own != row) t.field[f].row(to.own)[k] = from[k];
      if (births) t.field[f].row(to.birth)[k] = from[k];
    }
  }
  for (int m = 0; m < t.moments; m++) {
    const float* from = t.moment[m].row(row);
    for (int k = lane; k < t.moment[m].width; k += lanes) {
      if (action == SPLIT) t.moment[m].row(to.own)[k] = 0;
      else if (to.own != row) t.moment[m].row(to.own)[k] = from[k];
      if (births) t.moment[m].row(to.birth)[k] = 0;
    }
  }
  if (!births || lane != 0) return;
  // Read before anything is written: `own` may be the row itself.
  float mean[3], scales[3], drawn[2][3];
  const float opacity = *t.field[3].row(row), *quat = t.field[1].row(row);
  for (int k = 0; k < 3; k++) mean[k] = t.field[0].row(row)[k], scales[k] = t.field[2].row(row)[k];
  const int64_t target[2] = {to.own, to.birth};
  for (int copy = 0; copy < 2; copy++) {
    if (action == SPLIT) {
      draw_mean(mean, quat, scales, seed, step, uint32_t(row), copy, drawn[copy]);
    } else {
      for (int k = 0; k < 3; k++) drawn[copy][k] = mean[k];
    }
  }
  const double shrink = action == SPLIT ? log(SPLIT_SHRINK) : 0.0;
  for (int copy = 0; copy < 2; copy++) {
    for (int k = 0; k < 3; k++) {
      t.field[0].row(target[copy])[k] = drawn[copy][k];
      t.field[2].row(target[copy])[k] = float(double(scales[k]) - shrink);
    }
    *t.field[3].row(target[copy]) = action == SPLIT ? opacity : halved(opacity);
  }
}

}  // namespace esd
