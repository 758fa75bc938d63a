// Densification of one row (one Gaussian), compiled for the CPU and for CUDA. The results are
// defined, to the bit, by growth.py, classify.py, mcmc.py and random.py in esd_splat/scene/densify.
// Transcendental functions are evaluated in double precision and rounded once, so that the rounding
// of a particular library hardly ever affects the result.
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

constexpr double LOG_SPLIT_SHRINK = 0.47000362924573563;  // log 1.6
constexpr float SAFE_LOG_SCALE = 43;  // the sum of three variances does not overflow below this
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

// All tensors with a row per Gaussian: the fields of the scene and the optimizer's moments.
struct Tables {
  Table field[FIELDS], moment[MAX_MOMENTS];
  int32_t moments;
};

// Whether a row can be drawn, as `drawable` in esd_splat/scene/rasterize/base.py.
ESD_BOTH bool drawable(const Tables& t, int64_t i) {
  float zero = 0;  // becomes NaN if a value is not finite
  for (int f = 0; f < FIELDS; f++) {
    const float* x = t.field[f].row(i);
    for (int k = 0; k < t.field[f].width; k++) zero += x[k] * 0.0f;
  }
  const float *q = t.field[1].row(i), *s = t.field[2].row(i);
  const float length = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
  if (!(zero == 0 && length > 0 && length * 0.0f == 0)) return false;
  if (fmaxf(s[0], fmaxf(s[1], s[2])) < SAFE_LOG_SCALE) return true;
  return (expf(2 * s[0]) + expf(2 * s[1]) + expf(2 * s[2])) * 0.0f == 0;
}

ESD_BOTH float largest_scale(const Tables& t, int64_t i) {
  const float* s = t.field[2].row(i);
  return fmaxf(s[0], fmaxf(s[1], s[2]));
}

ESD_BOTH bool keeps(const Tables& t, int64_t i, const Limits& limits) {
  return largest_scale(t, i) <= float(limits.largest) &&
         *t.field[3].row(i) >= float(limits.faintest) && drawable(t, i);
}

// Length of an image-plane gradient.
ESD_BOTH float length(const float* xy) {
  const double x = xy[0], y = xy[1];
  return float(sqrt(x * x + y * y));
}

ESD_BOTH double steepness(double gradient, int32_t seen) {
  return gradient / (seen > 1 ? seen : 1);
}

// Action for a row that is kept and was seen, given its steepness and the mean steepness `usual`.
// If no row was seen, `usual` is NaN and nothing grows.
ESD_BOTH Action growth(const Tables& t, int64_t i, double steep, double usual,
                       const Limits& limits) {
  const bool grows = *t.field[3].row(i) >= float(limits.faintest_to_grow) &&
                     steep > limits.grow_ratio * usual;
  if (!grows) return KEEP;
  return largest_scale(t, i) > float(limits.split_above) ? SPLIT : CLONE;
}

// The centred and scaled sum of the eight 16-bit halves of a block of Philox4x32-10 (Salmon et al.,
// SC 2011), as `normals` in random.py.
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

// Logit of 1 - sqrt(1 - o), given the logit of o.
ESD_BOTH float halved(float logit) {
  const double x = -double(logit);
  const double log_clear = (fmin(x, 0.0) - log1p(exp(-fabs(x)))) / 2;
  return float(log(-expm1(log_clear)) - log_clear);
}

// The factor R S of a covariance in double precision, from which the children of a split are drawn.
struct Spread {
  double R[3][3], scale[3];

  ESD_BOTH Spread(const float* quat, const float* log_scales) {
    double w = quat[0], x = quat[1], y = quat[2], z = quat[3];
    double length = sqrt(w * w + x * x + y * y + z * z);
    length = length > 1e-12 ? length : 1e-12;
    w /= length, x /= length, y /= length, z /= length;
    R[0][0] = 1 - 2 * (y * y + z * z), R[0][1] = 2 * (x * y - w * z), R[0][2] = 2 * (x * z + w * y);
    R[1][0] = 2 * (x * y + w * z), R[1][1] = 1 - 2 * (x * x + z * z), R[1][2] = 2 * (y * z - w * x);
    R[2][0] = 2 * (x * z - w * y), R[2][1] = 2 * (y * z + w * x), R[2][2] = 1 - 2 * (x * x + y * y);
    for (int k = 0; k < 3; k++) scale[k] = exp(double(log_scales[k]));
  }

  ESD_BOTH void draw(const float* mean, uint64_t seed, uint32_t step, uint32_t row, uint32_t copy,
                     float* out) const {
    double v[3];
    for (int k = 0; k < 3; k++)
      v[k] = scale[k] * double(nearly_normal(seed, step, row, copy, k));
    for (int k = 0; k < 3; k++)
      out[k] = float(double(mean[k]) + (R[k][0] * v[0] + R[k][1] * v[1] + R[k][2] * v[2]));
  }
};

// Adds the noise of MCMC to the mean of a faint row, as `wander_torch` in mcmc.py.
constexpr double GATE_OPACITY = 0.005, GATE_STEEPNESS = 100, GATE_SHUT = 1e-25;
constexpr uint32_t NOISE_COPY = 2;

ESD_BOTH void wander(const Tables& t, int64_t i, double strength, uint64_t seed, uint32_t step) {
  const double opacity = 1 / (1 + exp(-double(*t.field[3].row(i))));
  const double gate = 1 / (1 + exp(-GATE_STEEPNESS * (GATE_OPACITY - opacity)));
  if (!(gate >= GATE_SHUT) || !drawable(t, i)) return;
  const Spread spread(t.field[1].row(i), t.field[2].row(i));
  double eta[3], v[3];
  for (int k = 0; k < 3; k++)
    eta[k] = double(nearly_normal(seed, step, uint32_t(i), NOISE_COPY, k));
  for (int k = 0; k < 3; k++)
    v[k] = spread.scale[k] * spread.scale[k] *
           (spread.R[0][k] * eta[0] + spread.R[1][k] * eta[1] + spread.R[2][k] * eta[2]);
  float* mean = t.field[0].row(i);
  for (int k = 0; k < 3; k++) {
    const double walk = spread.R[k][0] * v[0] + spread.R[k][1] * v[1] + spread.R[k][2] * v[2];
    mean[k] = float(double(mean[k]) + walk * (strength * gate));
  }
}

// The rows to which a row's own values and its new row are written.
struct Place {
  int64_t own, birth;  // birth is -1 if the row does not grow
};

// `drops` and `grows` are the numbers of dropped and of growing rows before this one, `tail_drops`
// is the number of dropped rows before row `count`. `holes` lists all `all_drops` dropped rows in
// order.
ESD_BOTH Place place(int64_t row, Action action, int64_t rows, int64_t count, int64_t drops,
                     int64_t grows, int64_t tail_drops, int64_t all_drops, int64_t all_grows,
                     const int64_t* holes) {
  Place to{row, -1};
  if (row >= count) to.own = holes[all_grows + (row - drops) - (count - tail_drops)];
  if (action >= CLONE) to.birth = grows < all_drops ? holes[grows] : rows + (grows - all_drops);
  return to;
}

// A row is moved and grown by the three functions below, which may be called in any order. The
// first two are called for each table. Several workers may share the values of a row: worker `lane`
// of `lanes`.

// Moves a field and copies it to the new row. Not for the fields of growing rows that `offspring`
// writes.
ESD_BOTH void move_field(const Table& table, int64_t row, Place to, int lane, int lanes) {
  const float* from = table.row(row);
  for (int k = lane; k < table.width; k += lanes) {
    if (to.own != row) table.row(to.own)[k] = from[k];
    if (to.birth >= 0) table.row(to.birth)[k] = from[k];
  }
}

// Moves a moment. The source of a clone keeps its moments. Clones, and both children of a split,
// start with zeros.
ESD_BOTH void move_moment(const Table& table, int64_t row, Action action, Place to, int lane,
                          int lanes) {
  const float* from = table.row(row);
  for (int k = lane; k < table.width; k += lanes) {
    if (action == SPLIT) table.row(to.own)[k] = 0;
    else if (to.own != row) table.row(to.own)[k] = from[k];
    if (to.birth >= 0) table.row(to.birth)[k] = 0;
  }
}

ESD_BOTH bool changes_in_offspring(int field) { return field == 0 || field == 2 || field == 3; }

// Writes means, scales and opacity of a growing row and of its new row.
ESD_BOTH void offspring(const Tables& t, int64_t row, Action action, Place to, uint64_t seed,
                        uint32_t step) {
  // Read everything before writing, as `own` may be the row itself.
  float mean[3], scales[3], opacity = *t.field[3].row(row);
  for (int k = 0; k < 3; k++) mean[k] = t.field[0].row(row)[k], scales[k] = t.field[2].row(row)[k];
  float* const means[2] = {t.field[0].row(to.own), t.field[0].row(to.birth)};
  if (action == SPLIT) {
    const Spread spread(t.field[1].row(row), scales);
    for (int copy = 0; copy < 2; copy++)
      spread.draw(mean, seed, step, uint32_t(row), copy, means[copy]);
    for (int k = 0; k < 3; k++) scales[k] = float(double(scales[k]) - LOG_SPLIT_SHRINK);
  } else {
    for (int k = 0; k < 3; k++) means[0][k] = means[1][k] = mean[k];
    opacity = halved(opacity);
  }
  for (int k = 0; k < 3; k++) {
    t.field[2].row(to.own)[k] = t.field[2].row(to.birth)[k] = scales[k];
  }
  *t.field[3].row(to.own) = *t.field[3].row(to.birth) = opacity;
}

}  // namespace esd
