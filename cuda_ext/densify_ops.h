// The checks of arguments that the operators of densification share on both devices.
#pragma once

#include <optional>
#include <vector>

#include "densify.h"
#include "ops.h"

namespace esd {

// Checks the scene's fields and the moments and returns pointers to them. Each may have more rows
// than `rows`.
inline Tables tables_of(const std::vector<Tensor>& fields, const std::vector<Tensor>& moments,
                        int64_t rows, int device) {
  static const char* const names[FIELDS] = {"means", "quats", "log_scales", "opacity_logits",
                                            "sh0", "shN"};
  static const int widths[FIELDS] = {3, 4, 3, 1, 3, -1};
  if (fields.size() != FIELDS) fail("fields: must be ", FIELDS, " tensors, got ", fields.size());
  if (moments.size() > MAX_MOMENTS)
    fail("moments: at most ", MAX_MOMENTS, " tensors, got ", moments.size());
  Tables t{};
  auto table = [&](const char* name, const Tensor& x, int64_t width) {
    if (x.dim() < 1 || x.size(0) < rows)
      fail(name, ": must have at least ", rows, " rows, got ", shape_of(x));
    int64_t found = 1;
    for (int64_t axis = 1; axis < x.dim(); axis++) found *= x.size(axis);
    if (width >= 0 && found != width)
      fail(name, ": must have ", width, " numbers a row, got ", shape_of(x));
    if (x.scalar_type() != ScalarType::Float)
      fail(name, ": must be float32, got ", name_of(x.scalar_type()));
    expect_on(name, x, device);
    if (!x.is_contiguous()) fail(name, ": must be contiguous");
    return Table{data<float>(x), int32_t(found)};
  };
  for (int f = 0; f < FIELDS; f++) t.field[f] = table(names[f], fields[f], widths[f]);
  for (const Tensor& moment : moments) t.moment[t.moments++] = table("moments", moment, -1);
  return t;
}

inline int64_t rows_of(const Tensor& x, const char* name) {
  if (x.dim() < 1) fail(name, ": must have a row per Gaussian, got ", shape_of(x));
  if (x.size(0) > INT32_MAX) fail(name, ": at most 2^31 - 1 Gaussians, got ", x.size(0));
  return x.size(0);
}

// Checks the arguments of `observe`. Returns the number of views.
inline int64_t check_seen(const Tensor& gradient, const Tensor& seen, const Tensor& grad2d,
                          const Tensor& visible, int device) {
  if (grad2d.dim() != 3) fail("grad2d: must have shape [b, n, 2], got ", shape_of(grad2d));
  const int64_t n = gradient.size(0), views = grad2d.size(0);
  expect("gradient", gradient, ScalarType::Double, {n}, device);
  expect("seen", seen, ScalarType::Int, {n}, device);
  expect("grad2d", grad2d, ScalarType::Float, {views, n, 2}, device);
  expect("visible", visible, ScalarType::Bool, {views, n}, device);
  return views;
}

// Checks the arguments of `classify` except for the tables.
inline void check_judged(const Tensor& gradient, const Tensor& seen,
                         const std::optional<Tensor>& keep, int device) {
  const int64_t n = gradient.size(0);
  expect("gradient", gradient, ScalarType::Double, {n}, device);
  expect("seen", seen, ScalarType::Int, {n}, device);
  if (keep) expect("keep", *keep, ScalarType::Bool, {n}, device);
}

// Checks that the numbers of rows in `grow` are consistent, so that no access is out of bounds.
struct Totals {
  int64_t rows, drops, grows, count;
  void check() const {
    if (rows - drops + grows != count)
      fail("count: ", rows, " rows of which ", drops, " are dropped and ", grows,
           " grow make ", rows - drops + grows, ", got ", count);
  }
  int64_t room() const { return count > rows ? count : rows; }
};

}  // namespace esd
