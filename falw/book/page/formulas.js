// The formulas of falw/weights.py and falw/split.py, for a page without a kernel: one place for each.
// tests/rendered/test_computed.py holds every one equal to its Python on random points, in a browser.
const sum = (values) => values.reduce((total, value) => total + value, 0);
const sorted = (values) => [...values].sort((a, b) => a - b);

const formulas = {
  // Eq. 5: `z_score`, of a class that has unseen images.
  zScore: (p, mu, sigma) => (p === mu ? 0 : (p - mu) / sigma),

  // Eqs. 5 and 7: `forgetting_weight`.
  forgettingWeight: (z, balance = 1, eta = 1) =>
    1 + Math.sign(z) * Math.tanh(Math.abs(z)) ** (1 / (eta * balance)),

  // Eq. 6: `balance_factor` of one class that has `count` of the `total` forgotten images.
  balanceFactor: (count, total, classes, tau) => (count > 0 ? (total / (classes * count)) ** tau : 1),

  // `class_stats` of one class: mean and deviation, with n - 1 below and at least `floor`.
  classStats(p, floor = 1e-3) {
    const mean = sum(p) / Math.max(p.length, 1);
    const variance = sum(p.map((value) => (value - mean) ** 2)) / Math.max(p.length - 1, 1);
    return { count: p.length, mean, std: Math.max(Math.sqrt(variance), floor) };
  },

  // Eq. B: `power_law_counts`, for laws as flat as a slider's: a steep one needs more than numbers from the head.
  powerLawCounts(total, caps, gamma, cap) {
    const share = caps.map((_, k) => (k + 1) ** -gamma);
    return toWhole((cap === "spill" ? spill : waterFill)(total, caps, share), total);
  },

  // `groups`: class numbers by forget count, the first of equals first, cut into thirds.
  groups(counts) {
    const order = counts.map((_, k) => k).sort((a, b) => counts[b] - counts[a] || a - b);
    const third = Math.round(order.length / 3), last = order.length - third;
    return { head: order.slice(0, third), mid: order.slice(third, last), tail: order.slice(last) };
  },

  // Definition 1: percent of `deviation_shares`.
  deviationShares(deviations, tol = 0.1) {
    const percent = (test) => (100 * deviations.filter(test).length) / deviations.length;
    return { under: percent((d) => d > tol), faithful: percent((d) => Math.abs(d) <= tol), over: percent((d) => d < -tol) };
  },

  // Wasserstein-1 distance between two samples of one size, as in `distances`: the mean distance of both sorted.
  wasserstein(values, others) {
    const [a, b] = [values, others].map(sorted);
    return sum(a.map((value, k) => Math.abs(value - b[k]))) / a.length;
  },
};

const spill = (total, caps, share) => {
  const all = sum(share), given = caps.map(() => 0);
  let wanted = share.map((s) => (total * s) / all), carry = 0;
  for (;;) {
    caps.forEach((cap, k) => {
      const give = Math.min(cap - given[k], wanted[k] + carry);
      carry += wanted[k] - give;
      given[k] += give;
    });
    if (carry < 1e-6) return given;
    wanted = wanted.map(() => 0);
  }
};

const waterFill = (total, caps, share) => {
  const full = caps.map((cap) => cap === 0);
  for (;;) {
    const level = (total - sum(caps.filter((_, k) => full[k]))) / sum(share.filter((_, k) => !full[k]));
    const over = caps.map((cap, k) => !full[k] && level * share[k] > cap);
    if (!over.includes(true)) return caps.map((cap, k) => (full[k] ? cap : level * share[k]));
    over.forEach((is, k) => { full[k] ||= is; });
  }
};

const toWhole = (share, total) => {
  const counts = share.map(Math.floor);
  const fraction = share.map((s, k) => Math.round((s - counts[k]) * 1e9));
  const order = share.map((_, k) => k).sort((a, b) => fraction[b] - fraction[a]);
  order.slice(0, total - sum(counts)).forEach((k) => { counts[k] += 1; });
  return counts;
};

// Python's `round`: a half goes to the even neighbour.
const roundHalf = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
