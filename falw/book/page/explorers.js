// The explorers that compute: what each finds for the values of its controls, and what it draws of it.
const along = (low, high, n) => Array.from({ length: n }, (_, k) => low + ((high - low) * k) / (n - 1));

const EXPLORERS = {
  weight: {
    numbers({ p, mu, sigma, eta }) {
      const z = formulas.zScore(p, mu, sigma);
      return { z, w: formulas.forgettingWeight(z, 1, eta), tanh: Math.tanh(Math.abs(z)), sign: z < 0 ? "−" : "+" };
    },
    plots({ p, mu, sigma, eta, w }) {
      const x = [...along(0, 1, 161), mu - 0.002, mu, mu + 0.002].filter((v) => v >= 0 && v <= 1).sort((a, b) => a - b);
      const y = x.map((v) => formulas.forgettingWeight(formulas.zScore(v, mu, sigma), 1, eta));
      const marks = [
        { band: [Math.max(mu - sigma, 0), Math.min(mu + sigma, 1)], name: "μ ± σ" },
        { level: 1 },
        { line: [x, y], colour: "main", name: "w" },
        { dots: [[p], [w]], colour: "second", size: 6, name: "this sample" },
      ];
      return [{ x: [0, 1], y: [0, 2.05], xLabel: "probability of the true class p", yLabel: "weight w", marks }];
    },
  },
  balance: {
    numbers({ tau, count, z, total, classes }) {
      const b = formulas.balanceFactor(count, total, classes, tau);
      const [low, high, w] = [-0.5, 0.5, z].map((v) => formulas.forgettingWeight(v, b));
      return { b, w, low, high, plain: formulas.forgettingWeight(z), sign: z < 0 ? "−" : "+", tanh: Math.tanh(Math.abs(z)) };
    },
    plots({ tau, count, z, total, classes, most, b, w }) {
      const counts = along(1, most, most), x = [...along(-3, 3, 241), -0.01, -0.001, 0.001, 0.01].sort((a, c) => a - c);
      const factors = counts.map((n) => formulas.balanceFactor(n, total, classes, tau));
      const top = Math.max(1.2, 1.1 * factors[0]);
      const factor = [
        { level: 1, name: "B = 1" },
        { line: [counts, factors], colour: "main", name: "B" },
        { dots: [[count], [b]], colour: "second", size: 6, name: "this class" },
      ];
      const weight = [
        { level: 1 },
        { line: [x, x.map((v) => formulas.forgettingWeight(v))], name: "w for B = 1" },
        { line: [x, x.map((v) => formulas.forgettingWeight(v, b))], colour: "main", name: `w for B = ${b.toFixed(2)}` },
        { dots: [[z], [w]], colour: "second", size: 6, name: "this sample" },
      ];
      return [
        { x: [0, most], y: [0, top], xLabel: "forgotten images of the class", yLabel: "balance factor B", marks: factor },
        { x: [-3, 3], y: [0, 2.05], xLabel: "z-score", yLabel: "weight w", marks: weight },
      ];
    },
  },
  forgetSet: {
    numbers({ gamma, ratio, classes, cap, each }) {
      const total = roundHalf(ratio * classes * each);
      const counts = formulas.powerLawCounts(total, Array(classes).fill(each), gamma, cap);
      const of = (n) => counts.filter((count) => count === n).length;
      return { total, counts, first: counts[0], last: counts[classes - 1], gone: of(each), none: of(0) };
    },
    plots({ counts, classes, each }) {
      const marks = [
        { bars: [along(0.5, classes + 0.5, classes + 1), counts], colour: "main", name: "to forget" },
        { level: each, dash: true, name: "images a class has" },
      ];
      return [{ x: [0.5, classes + 0.5], y: [0, 1.05 * each], xLabel: "rank of the class", yLabel: "images", marks }];
    },
  },
  twoModels: {
    numbers({ left, right, group, p, known, members }) {
      const of = (values) => members[group].map((k) => values[k]), mean = (values) => sum(values) / values.length;
      const theirs = of(p.retrain), fa = (name) => 100 * mean(of(known[name]));
      const sides = Object.entries({ left, right }).flatMap(([side, name]) => {
        const mine = of(p[name]), deviations = mine.map((value, k) => value - theirs[k]);
        const found = {
          fa: fa(name), good: fa("retrain"), deviation: mean(deviations), distance: mean(deviations.map(Math.abs)),
          faithful: formulas.deviationShares(deviations).faithful, w1: formulas.wasserstein(mine, theirs),
        };
        return Object.entries(found).map(([key, value]) => [`${side}_${key}`, value]);
      });
      return { images: theirs.length, ...Object.fromEntries(sides) };
    },
    plots(found) {
      const { p, members, notes, group } = found, inside = new Set(members[group]);
      const colours = Object.entries({ head: "main", mid: "third", tail: "second" }).filter(([name]) => name in members);
      return Object.entries(notes).map(([side, note]) => {
        const title = found[side], over = (images) => [p.retrain, p[title]].map((values) => images.map((k) => values[k]));
        const dots = colours.map(([name, colour]) => ({ dots: over(members[name].filter((k) => inside.has(k))), colour, name }));
        const marks = [
          { line: [[0, 1], [0, 1]] },
          { line: [[0, 0.9], [0.1, 1]], dash: true, name: "within 0.1: faithful" },
          { line: [[0.1, 1], [0, 0.9]], dash: true },
          ...dots.filter((mark) => mark.dots[0].length),
          { line: over(members[group]).map(sorted), colour: "text", name: "both sorted: its distance from the diagonal is W1" },
        ];
        const labels = { xLabel: "p under Retrain", yLabel: `p under ${title}` };
        return { x: [0, 1], y: [0, 1], ...labels, marks, title, note: filled(note, found), square: true };
      });
    },
  },
};
