// The operators observe, classify, grow and wander on the CPU. The code for one row is in
// densify.h.
#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "densify_ops.h"

namespace esd {
namespace {

// Number of rows per task. Partial sums are taken per task, so they do not depend on the threads.
constexpr int64_t GRAIN = 4096;

void observe(Tensor gradient, Tensor seen, const Tensor grad2d, const Tensor visible) {
  const int64_t n = rows_of(gradient, "gradient");
  const int64_t views = check_seen(gradient, seen, grad2d, visible, CPU);
  double* sum = data<double>(gradient);
  int32_t* count = data<int32_t>(seen);
  const float* grad = data<float>(grad2d);
  const bool* shown = data<bool>(visible);
  torch::stable::parallel_for(0, n, GRAIN, [&](int64_t from, int64_t to) {
    for (int64_t v = 0; v < views; v++) {
      for (int64_t i = from; i < to; i++) {
        if (!shown[v * n + i]) continue;
        sum[i] += length(grad + 2 * (v * n + i));
        count[i]++;
      }
    }
  });
}

std::tuple<Tensor, Tensor> classify(const std::vector<Tensor> fields, const Tensor gradient,
                                    const Tensor seen, const std::optional<Tensor> keep,
                                    double largest, double faintest, double faintest_to_grow,
                                    double split_above, double grow_ratio) {
  const int64_t n = rows_of(gradient, "gradient");
  const Limits limits{largest, faintest, faintest_to_grow, split_above, grow_ratio};
  const Tables t = tables_of(fields, {}, n, CPU);
  check_judged(gradient, seen, keep, CPU);
  const double* sum = data<double>(gradient);
  const int32_t* views = data<int32_t>(seen);
  const bool* kept = keep ? data<bool>(*keep) : nullptr;
  const Tensor actions = torch::stable::new_empty(gradient, {n}, ScalarType::Byte);
  const Tensor counts = torch::stable::new_zeros(gradient, {2}, ScalarType::Long);
  uint8_t* action = data<uint8_t>(actions);

  struct Part {
    double steep = 0;
    int64_t known = 0, kept = 0, grow = 0;
  };
  const int64_t tasks = (n + GRAIN - 1) / GRAIN;
  std::vector<Part> parts(tasks);
  auto each = [&](auto work) {
    torch::stable::parallel_for(0, tasks, 1, [&](int64_t first, int64_t last) {
      for (int64_t k = first; k < last; k++)
        for (int64_t i = k * GRAIN; i < std::min(n, (k + 1) * GRAIN); i++) work(i, parts[k]);
    });
  };
  each([&](int64_t i, Part& part) {
    action[i] = kept ? (kept[i] ? KEEP : DROP) : (keeps(t, i, limits) ? KEEP : DROP);
    part.kept += action[i];
    if (action[i] == KEEP && views[i] > 0) part.steep += steepness(sum[i], views[i]), part.known++;
  });
  double total = 0;
  int64_t known = 0;
  for (const Part& part : parts) total += part.steep, known += part.known;
  const double usual = known ? total / known : std::numeric_limits<double>::quiet_NaN();
  each([&](int64_t i, Part& part) {
    if (action[i] == DROP || views[i] == 0) return;
    action[i] = growth(t, i, steepness(sum[i], views[i]), usual, limits);
    part.grow += action[i] != KEEP;
  });
  for (const Part& part : parts) {
    data<int64_t>(counts)[0] += part.kept;
    data<int64_t>(counts)[1] += part.grow;
  }
  return {actions, counts};
}

void grow(const Tensor action, std::vector<Tensor> fields, std::vector<Tensor> moments,
          int64_t count, int64_t seed, int64_t step) {
  const int64_t n = rows_of(action, "action");
  expect("action", action, ScalarType::Byte, {n});
  const Action* act = reinterpret_cast<const Action*>(data<uint8_t>(action));
  Totals totals{n, 0, 0, count};
  std::vector<int64_t> holes;
  holes.reserve(n / 8);
  for (int64_t i = 0; i < n; i++) {
    if (act[i] == DROP) holes.push_back(i);
    else if (act[i] > SPLIT) fail("action: row ", i, " has ", int(act[i]), ", must be 0 to 3");
    else totals.grows += act[i] >= CLONE;
  }
  totals.drops = int64_t(holes.size());
  totals.check();
  const Tables t = tables_of(fields, moments, totals.room(), CPU);

  struct Task {
    int64_t row;
    Place to;
  };
  std::vector<Task> tasks;
  const int64_t tail_drops = std::lower_bound(holes.begin(), holes.end(), count) - holes.begin();
  for (int64_t i = 0, drops = 0, grows = 0; i < n; i++) {
    if (act[i] == KEEP && i < count) continue;
    if (act[i] == DROP) {
      drops++;
      continue;
    }
    // The rows before row i that are not dropped are i - drops, including those without a task.
    tasks.push_back({i, place(i, act[i], n, count, drops, grows, tail_drops, totals.drops,
                              totals.grows, holes.data())});
    grows += act[i] >= CLONE;
  }
  // No task reads a row that another task writes: tasks write to holes and to new rows, which
  // nobody reads, and to their own row. Each task handles one table after the other, as a processor
  // can prefetch only few streams at a time.
  torch::stable::parallel_for(0, int64_t(tasks.size()), GRAIN, [&](int64_t from, int64_t to) {
    auto each = [&](auto work) {
      for (int64_t k = from; k < to; k++) work(tasks[k].row, act[tasks[k].row], tasks[k].to);
    };
    for (int f = 0; f < FIELDS; f++) {
      each([&](int64_t row, Action action, Place to) {
        if (action == KEEP || !changes_in_offspring(f)) move_field(t.field[f], row, to, 0, 1);
      });
    }
    for (int m = 0; m < t.moments; m++) {
      each([&](int64_t row, Action action, Place to) {
        move_moment(t.moment[m], row, action, to, 0, 1);
      });
    }
    each([&](int64_t row, Action action, Place to) {
      if (action != KEEP) offspring(t, row, action, to, uint64_t(seed), uint32_t(step));
    });
  });
}

void wander_all(std::vector<Tensor> fields, double strength, int64_t seed, int64_t step) {
  if (fields.empty()) fail("fields: must be ", FIELDS, " tensors, got 0");
  const int64_t n = rows_of(fields[0], "means");
  const Tables t = tables_of(fields, {}, n, CPU);
  torch::stable::parallel_for(0, n, GRAIN, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++) wander(t, i, strength, uint64_t(seed), uint32_t(step));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(esd_splat, m) {
  m.def("observe(Tensor(a!) gradient, Tensor(b!) seen, Tensor grad2d, Tensor visible) -> ()");
  m.def(
      "classify(Tensor[] fields, Tensor gradient, Tensor seen, Tensor? keep, float largest, "
      "float faintest, float faintest_to_grow, float split_above, float grow_ratio) -> "
      "(Tensor action, Tensor counts)");
  m.def(
      "grow(Tensor action, Tensor(a!)[] fields, Tensor(b!)[] moments, int count, int seed, "
      "int step) -> ()");
  m.def("wander(Tensor(a!)[] fields, float strength, int seed, int step) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(esd_splat, CPU, m) {
  m.impl("observe", TORCH_BOX(&observe));
  m.impl("classify", TORCH_BOX(&classify));
  m.impl("grow", TORCH_BOX(&grow));
  m.impl("wander", TORCH_BOX(&wander_all));
}

}  // namespace esd
